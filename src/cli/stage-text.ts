/** The counts of a stage for people, a few lines on stderr. */
import type { StageSummary } from '../runtime/stage-summary.ts'
import { integer } from './table.ts'

export function stageText(summary: StageSummary): string {
  const { stage, job, read, written, quarantined, filtered, deduplicated, seconds } = summary
  const parts = [
    `${integer(read)} read`,
    `${integer(written)} ${stage === 'load' ? 'rows' : 'written'}`,
    ...counted(quarantined, 'refused', summary.quarantined_by),
    ...counted(filtered, 'filtered', summary.filtered_by),
    ...counted(deduplicated, 'deduplicated', {}),
  ]
  const lines = [`${stage} ${job}: ${parts.join(', ')} in ${seconds.toFixed(1)} s`]
  for (const [id, { loaded, repeated }] of Object.entries(summary.stores))
    lines.push(
      `  ${id}: ${integer(loaded)} loaded${repeated === 0 ? '' : `, ${integer(repeated)} repeated: they were there already`}`,
    )
  for (const [rule, count] of Object.entries(summary.warned_by))
    lines.push(`  warning: rule ${rule} does not hold for ${integer(count)} rows`)
  for (const warning of summary.warnings) lines.push(`  warning: ${warning}`)
  for (const { source, lane, from, code, message } of summary.gaps)
    lines.push(`  gap: ${source} ${lane} from ${from}: ${code}: ${message}`)
  return lines.join('\n')
}

function counted(count: number, what: string, by: Readonly<Record<string, number>>): string[] {
  if (count === 0) return []
  const detail = Object.entries(by).map(([id, part]) => `${id} ${integer(part)}`)
  return [`${integer(count)} ${what}${detail.length === 0 ? '' : ` (${detail.join(', ')})`}`]
}
