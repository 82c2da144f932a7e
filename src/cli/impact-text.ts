/** What came of records, for people. */
import type { Impact, ImpactedRecord } from '../trace/impact.ts'
import type { StoreImpact } from '../trace/store-impact.ts'
import { integer } from './table.ts'
import { batchLines, oneLine, placeText, rawText } from './trace-text.ts'

const MOST_BLOCKS = 20

export function impactText({ records, batches, runs, closed, unreadable, warnings }: Impact): string {
  const blocks = records.slice(0, MOST_BLOCKS).map((record) => {
    const batch = batches[record.batch]
    return [
      `${placeText(record)}: ${fateText(record)}`,
      `           ${rawText(record)}`,
      ...record.stores.map((store) => `  ${store.store.padEnd(8)} ${storeText(store)}`),
      ...(batch === undefined ? [] : batchLines(record.batch, batch, runs[batch.run], false)),
    ].join('\n')
  })
  const more = records.length - MOST_BLOCKS
  return [
    ...blocks,
    ...(more > 0 ? [`and ${integer(more)} more: see --json`] : []),
    ...Object.entries(unreadable).map(([token, why]) => `✘ batch ${token.slice(0, 12)} cannot be repeated: ${why}`),
    ...Object.entries(closed).map(([store, why]) => `✘ ${store} was not looked into: ${why}`),
    ...warnings.map((text) => `! ${text}`),
    `${integer(records.length)} ${records.length === 1 ? 'record' : 'records'}`,
  ].join('\n\n')
}

function fateText({ fate, by, reason, kept_in }: ImpactedRecord): string {
  if (fate === 'passed') return 'passed'
  const where = kept_in === null ? '' : `, kept in ${kept_in}`
  return `${fate}${by === null ? '' : ` by ${by}`}${reason === null ? '' : `: ${reason}`}${where}`
}

const STATUS: Readonly<Record<StoreImpact['status'], string>> = {
  there: 'has it',
  replaced: 'a later record of its key stands there',
  contributes: 'it is part of',
  owed: 'is owed it: the batch waits in the spool',
  missing: 'was given it, and does not have it (deleted or changed there)',
  untraceable: 'its rows do not know their batches',
  not_given: 'was not in the job then',
}

function storeText({ status, row, by }: StoreImpact): string {
  const stored = row === null ? '' : `: ${oneLine(JSON.stringify(row))}`
  return `${STATUS[status]}${stored}${by === null ? '' : `, of batch ${by.slice(0, 12)}`}`
}
