/** A certificate for people at a terminal. */
import type { Certificate, CheckedStore, Finding } from '../trace/certificate.ts'
import { integer, table } from './table.ts'

const MOST_FINDINGS = 20
const MOST_LINES = 100

export function proveText(certificate: Certificate): string {
  const { findings, gaps, ledger, stores, quarantine } = certificate
  const more = findings.length - MOST_FINDINGS
  return [
    headline(certificate),
    booksTable(certificate),
    [
      ...stores.map(storeText),
      `quarantine: ${integer(quarantine.records)} records in ${integer(quarantine.batches)} files`,
    ].join('\n'),
    ...findings.slice(0, MOST_FINDINGS).map((finding) => `✘ ${findingText(finding)}`),
    ...(more > 0 ? [`and ${integer(more)} more: see --json`] : []),
    ...gaps.map(({ source, lane, from, message }) => `! ${source} could not be read at ${lane} ${from}: ${message}`),
    `ledger: the hash chain holds over ${integer(ledger.events)} events; head ${ledger.head}`,
  ].join('\n\n')
}

function headline({ status, job, unaccounted, window }: Certificate): string {
  const of = `${job}, ${window.from ?? 'the beginning'} to ${window.to ?? 'now'}`
  if (status === 'proven')
    return `✔ proven: ${of}: every record is accounted for, and every store holds what it was given`
  if (status === 'gaps') return `✘ gaps: ${of}: the books close, but a part of a source is missing from them`
  return `✘ differences: ${of}: ${integer(unaccounted)} unaccounted`
}

function booksTable({ books }: Certificate): string {
  const numbers = ['read', 'loaded', 'quarantined', 'filtered', 'deduplicated', 'owed', 'unaccounted'] as const
  const first = [...books].sort((a, b) => b.unaccounted - a.unaccounted)
  const more = books.length - MOST_LINES
  const lines = table(
    [
      { name: 'source' },
      { name: 'lane' },
      { name: 'store' },
      ...numbers.map((name) => ({ name, align: 'right' as const })),
    ],
    first
      .slice(0, MOST_LINES)
      .map((line) => [line.source, line.lane, line.store, ...numbers.map((name) => line[name])]),
  )
  return more > 0 ? `${lines}\n\nand ${integer(more)} more: see --json or --html` : lines
}

export function storeText({ store, checked, batches, rows, digests, unverified }: CheckedStore): string {
  const rest = unverified === 0 ? '' : `; ${integer(unverified)} batches without a digest that can be compared`
  return `${store}: ${integer(rows)} rows in ${integer(batches)} batches, checked ${checked}${digests === 0 ? '' : ` (${integer(digests)} digests)`}${rest}`
}

export function findingText({ stage, source, lane, from, to, message, batch }: Finding): string {
  const range = lane === null ? '' : ` ${source}, ${lane} [${from}, ${to})`
  return `${stage}:${range}${batch === null ? '' : ` batch ${batch.slice(0, 12)}`}: ${message}`
}
