/** Refused records for people. */
import type { QuarantineTrace } from '../trace/trace-quarantine.ts'
import { integer } from './table.ts'
import { batchLines, placeText, rawText } from './trace-text.ts'

export function quarantineText({ records, batches, runs }: QuarantineTrace): string {
  const blocks = records.map((record) => {
    const batch = batches[record.token]
    return [
      `✘ ${record.rule}: ${record.field === null ? '' : `${record.field}: `}${record.reason}`,
      `  record   ${placeText(record)}`,
      `           ${rawText(record)}`,
      `  kept in  ${record.kept_in}`,
      ...(batch === undefined
        ? ['  batch    the ledger does not know it']
        : batchLines(record.token, batch, runs[batch.run], false)),
    ].join('\n')
  })
  const count = `${integer(records.length)} ${records.length === 1 ? 'record' : 'records'} in quarantine`
  return [...blocks, count].join('\n\n')
}
