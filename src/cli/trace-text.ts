/** A trace for people: a block per row, or one line per row where there are many. */

import type { TracedRecord } from '../trace/records.ts'
import type { Trace, TracedBatch, TracedRow, TracedRun } from '../trace/trace-result.ts'
import { integer, table } from './table.ts'

/** More rows than this are a table. */
const MOST_BLOCKS = 10
const MOST_RECORDS = 5
/** A table of ten thousand lines takes longer than the trace. */
const MOST_LINES = 100
const WIDTH = 160

export function traceText(trace: Trace): string {
  const { rows, counts, store } = trace
  const closing = `${counts.traced === counts.rows ? '✔' : '✘'} ${integer(counts.traced)} of ${integer(counts.rows)} ${counts.rows === 1 ? 'row' : 'rows'} of ${store} traced, in ${integer(counts.batches)} ${counts.batches === 1 ? 'batch' : 'batches'}`
  const body = rows.length <= MOST_BLOCKS ? rows.map((row) => block(row, trace)).join('\n\n') : overview(rows)
  return `${body}\n\n${closing}`
}

function block(row: TracedRow, { batches, runs, store }: Trace): string {
  const batch = row.batch === null ? undefined : batches[row.batch]
  return [
    `${row.status === 'traced' ? '✔' : '✘'} ${store}: ${oneLine(JSON.stringify(row.row))}`,
    ...(row.message === null ? [] : [`  ${row.status.padEnd(8)} ${row.message}`]),
    ...(row.hint === null ? [] : [`           → ${row.hint}`]),
    ...recordLines(row),
    ...(batch === undefined || row.batch === null ? [] : batchLines(row.batch, batch, runs[batch.run])),
  ].join('\n')
}

function recordLines({ given, records }: TracedRow): string[] {
  if (given === 'batch')
    return ['  records  the row is made of the batch as a whole: the step does not say which records went into it']
  const shown = records
    .slice(0, MOST_RECORDS)
    .flatMap((record) => [`  record   ${placeText(record)}`, `           ${rawText(record)}`])
  const more = records.length - MOST_RECORDS
  return [
    ...(given === 'group' ? [`  records  ${integer(records.length)} went into this row`] : []),
    ...shown,
    ...(more > 0 ? [`           and ${integer(more)} more: see --json`] : []),
  ]
}

export function placeText({ origin, byte_from, byte_to, line }: TracedRecord): string {
  return byte_from < 0 ? `${origin} row ${line}` : `${origin} line ${line}, bytes ${byte_from}–${byte_to}`
}

export function rawText({ raw, raw_base64 }: TracedRecord): string {
  return raw === null ? `base64 ${oneLine(raw_base64 ?? '')}` : oneLine(raw)
}

/** `passed`: the row was loaded. */
export function batchLines(token: string, batch: TracedBatch, run: TracedRun | undefined, passed = true): string[] {
  return [
    `  batch    ${token.slice(0, 16)}… of ${batch.source}, ${batch.lane} [${batch.from}, ${batch.to}), planned ${batch.clock}`,
    `  file     ${batch.origin}`,
    `  run      ${batch.run}${run?.adflow === undefined || run.adflow === null ? '' : `, adflow ${run.adflow}`}, loaded ${batch.loaded_at}`,
    ...(run === undefined || run.job_digest === null
      ? []
      : [
          `  job      ${run.job_file}, digest ${run.job_digest.slice(0, 16)}…, pin ${run.pin?.slice(0, 16)}…`,
          ...(passed ? [`  rules    ${run.rules.join(', ')}: passed`] : []),
          ...(passed
            ? [
                `  steps    ${run.steps.length === 0 ? 'none' : run.steps.map(({ id, verb }) => (id === verb ? id : `${id} (${verb})`)).join(' → ')}`,
              ]
            : []),
        ]),
    ...(run === undefined || run.secrets_changed.length === 0
      ? []
      : [`  secrets  ${run.secrets_changed.join(', ')} changed since: what is computed with them differs`]),
  ]
}

function overview(rows: readonly TracedRow[]): string {
  const more = rows.length - MOST_LINES
  const lines = table(
    [
      { name: 'row' },
      { name: 'status' },
      { name: 'file' },
      { name: 'line', align: 'right' },
      { name: 'bytes', align: 'right' },
      { name: 'batch' },
    ],
    rows.slice(0, MOST_LINES).map(({ row, status, records, batch }) => {
      const [record] = records
      return [
        oneLine(JSON.stringify(row), 60),
        status,
        record?.origin ?? '',
        record === undefined ? '' : String(record.line),
        record === undefined || record.byte_from < 0 ? '' : `${record.byte_from}–${record.byte_to}`,
        batch?.slice(0, 12) ?? '',
      ]
    }),
  )
  return more > 0 ? `${lines}\n\nand ${integer(more)} more: see --json` : lines
}

export function oneLine(text: string, width = WIDTH): string {
  const line = text.replaceAll(/\s+/g, ' ')
  return line.length > width ? `${line.slice(0, width - 1)}…` : line
}
