/** The sample in a few lines for people. */

import { integer, table } from '../cli/table.ts'
import { sizeText } from '../core/job/units.ts'
import { DEFECT_CLASSES } from './defects.ts'
import { TRUTH_FILE } from './folder.ts'
import type { Truth } from './truth.ts'

export function sampleText(dir: string, truth: Truth): string {
  const { impression, click, conversion } = truth.event_types
  const size = truth.files.reduce((sum, file) => sum + file.bytes, 0)
  const rows: [string, string | number][] = [
    ['records', truth.rows],
    ['good events, each once', truth.clean],
    ['  · impressions', impression],
    ['  · clicks', click],
    ['  · conversions', conversion],
    ['  · spend', decimal(truth.spend_micros)],
    ...DEFECT_CLASSES.map((name): [string, number] => [`defect ${name}`, truth.defects[name]]),
  ]
  return [
    table([{ name: `sample, seed ${truth.seed}` }, { name: 'count', align: 'right' }], rows),
    '',
    `${integer(truth.files.length)} ${truth.format} ${truth.files.length === 1 ? 'file' : 'files'}, ${sizeText(size)}, in ${dir}; ${TRUTH_FILE} beside them states what a run must find`,
  ].join('\n')
}

/** Micros as units with all six places, exactly. */
function decimal(micros: string): string {
  const digits = micros.padStart(7, '0')
  return `${integer(BigInt(digits.slice(0, -6)))}.${digits.slice(-6)}`
}
