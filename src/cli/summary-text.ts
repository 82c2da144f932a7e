/** The summary of a run, for people: rows in, where each went, and that it balances. */

import { sizeText } from '../core/job/units.ts'
import type { RunSummary } from '../runtime/summary.ts'
import { consumersTable, owedLines } from './consumers-text.ts'
import { integer, table } from './table.ts'

export function summaryText(summary: RunSummary): string {
  const rate = summary.seconds > 0 ? ` (${integer(Math.round(summary.read / summary.seconds))} records/s)` : ''
  const lines = [
    `${mark(summary)} ${summary.job}: ${summary.status} — ${integer(summary.read)} records, ${sizeText(summary.bytes)} in ${summary.seconds.toFixed(1)} s${rate}`,
    '',
    table(
      [{ name: 'records' }, { name: 'count', align: 'right' }],
      [
        ['read', summary.read],
        ['passed', summary.passed],
        ['quarantined', summary.quarantined],
        ...detail(summary.quarantined_by),
        ['filtered', summary.filtered],
        ...detail(summary.filtered_by),
        ['deduplicated', summary.deduplicated],
        ['unaccounted', summary.unaccounted],
      ],
    ),
    '',
    table(
      [
        { name: 'store' },
        { name: 'loaded', align: 'right' },
        { name: 'repeated', align: 'right' },
        { name: 'owed', align: 'right' },
      ],
      Object.entries(summary.stores).map(([id, store]) => [id, store.loaded, store.repeated, store.owed]),
    ),
    ...(Object.keys(summary.sources).length > 1 ? ['', sourcesTable(summary)] : []),
    ...(Object.keys(summary.consumers).length === 0 ? [] : ['', consumersTable(summary.consumers)]),
    '',
    summary.unaccounted === 0
      ? `balanced: ${integer(summary.read)} read = ${integer(summary.passed)} passed + ${integer(summary.quarantined)} quarantined + ${integer(summary.filtered)} filtered + ${integer(summary.deduplicated)} deduplicated`
      : `NOT BALANCED: ${integer(summary.unaccounted)} records unaccounted for`,
  ]
  for (const [rule, count] of Object.entries(summary.warned_by))
    lines.push(`warning: rule ${rule} does not hold for ${integer(count)} rows`)
  for (const gap of summary.gaps)
    lines.push(`gap: ${gap.source} ${gap.lane} from ${gap.from}: ${gap.code}: ${gap.message}`)
  for (const [id, store] of Object.entries(summary.stores))
    if (store.owed > 0 || store.reason !== undefined)
      lines.push(`owed: ${integer(store.owed)} rows to ${id}: ${store.reason ?? 'the store was down'}`)
  lines.push(...owedLines(summary.consumers))
  return lines.join('\n')
}

function sourcesTable({ sources }: RunSummary): string {
  const names = ['source', 'state', 'records', 'size', 'seconds', 'gaps']
  return table(
    names.map((name, index) => ({ name, align: index < 2 ? ('left' as const) : ('right' as const) })),
    Object.entries(sources).map(([id, { state, records, bytes, seconds, gaps }]) => [
      ...[id, state, records, sizeText(bytes), seconds.toFixed(1), gaps],
    ]),
  )
}

function mark(summary: RunSummary): string {
  return summary.exit === 0 ? '✔' : '✖'
}

function detail(counts: Readonly<Record<string, number>>): [string, number][] {
  return Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([id, count]) => [`  · ${id}`, count])
}
