/** A reconciliation, for people. */

import { sizeText } from '../core/job/units.ts'
import type { ComparisonReport, Reconciliation, RowDifference } from '../reconcile/report.ts'
import { integer, table } from './table.ts'

export function reconcileText({ comparisons }: Reconciliation): string {
  return comparisons.map(comparisonText).join('\n\n')
}

function comparisonText(report: ComparisonReport): string {
  const { left, right, rows, batches, differences, heal } = report
  const found = Object.entries(differences).filter(([, count]) => count > 0)
  const verdict = found.map(([kind, count]) => `${integer(count)} ${kind}`).join(', ')
  const buckets = report.differing.length
  const parts = [
    `${buckets === 0 ? '✔' : heal !== null && report.clean ? '✔' : '✖'} ${left} and ${right}: ${
      buckets === 0
        ? 'no difference'
        : `${verdict === '' ? 'rows differ' : verdict}, in ${integer(buckets)} of ${integer(report.buckets)} buckets`
    }`,
    `  ${integer(rows.left)} rows in ${left}, ${integer(rows.right)} in ${right}; ${integer(batches)} batches, by ${
      report.by === 'time' ? `${report.column} in steps of ${duration(report.bucket)}` : 'key'
    }, key ${report.key.join(', ')}`,
  ]
  if (buckets > 0) parts.push('', bucketTable(report))
  if (report.sample.length > 0) parts.push('', rowTable(report.sample))
  const more = Object.values(differences).reduce((sum, count) => sum + count, 0) - report.sample.length
  if (more > 0 && report.sample.length > 0) parts.push(`… and ${integer(more)} more rows (--out FILE has them all)`)
  parts.push(...apart(report))
  if (heal !== null) {
    const left = Object.values(heal.remaining).reduce((sum, count) => sum + count, 0)
    parts.push(
      '',
      `healed ${right}: ${integer(heal.inserted)} rows put in, ${integer(heal.removed)} taken out, from ${counted(heal.batches, 'batch', 'batches')}; ${
        left === 0 ? 'compared again: no difference' : `${integer(left)} differences are left`
      }`,
    )
    for (const token of heal.skipped)
      parts.push(`  batch ${token.slice(0, 12)} has more than missing rows, and can only be written whole: --heal all`)
  }
  return parts.join('\n')
}

function apart({ not_loaded, owed, later, unreadable, remarks, right }: ComparisonReport): string[] {
  const lines: string[] = []
  if (not_loaded.lanes > 0)
    lines.push(
      `not loaded yet: ${sizeText(not_loaded.bytes)} in ${integer(not_loaded.lanes)} lanes; the next run reads them`,
    )
  if (not_loaded.batches > 0)
    lines.push(`never loaded: ${integer(not_loaded.batches)} batches are older than the store ${right} in this job`)
  if (owed.batches > 0)
    lines.push(
      `owed to ${right}: ${integer(owed.rows)} rows in ${integer(owed.batches)} batches; the next run pays them`,
    )
  if (later > 0) lines.push(`left out: ${integer(later)} batches that came after the position that was compared`)
  for (const { lane, from, to, message } of unreadable.slice(0, 10))
    lines.push(`cannot be compared: ${lane} [${from}, ${to}): ${message}`)
  if (unreadable.length > 10) lines.push(`… and ${integer(unreadable.length - 10)} more ranges`)
  return [...lines, ...remarks].map((line) => `  ${line}`)
}

const BUCKETS_SHOWN = 20

function bucketTable({ differing, left, right }: ComparisonReport): string {
  const sums = Object.keys(differing[0]?.sums ?? {})
  const heads = [
    { name: 'bucket' },
    { name: left, align: 'right' as const },
    { name: right, align: 'right' as const },
    ...sums.flatMap((name) => [left, right].map((side) => ({ name: `${name} (${side})`, align: 'right' as const }))),
  ]
  const shown = differing.slice(0, BUCKETS_SHOWN)
  const text = table(
    heads,
    shown.map((row) => [row.bucket, row.left, row.right, ...sums.flatMap((name) => row.sums[name] ?? ['', ''])]),
  )
  const more = differing.length - shown.length
  return more > 0 ? `${text}\n… and ${integer(more)} more buckets (--json has them all)` : text
}

function rowTable(sample: readonly RowDifference[]): string {
  return table(
    [{ name: 'difference' }, { name: 'key' }, { name: 'what' }, { name: 'from' }],
    sample.map((row) => [
      row.kind,
      short(values(row.key)),
      what(row),
      row.lane === null ? '' : `${row.lane} [${row.from}, ${row.to})`,
    ]),
  )
}

function what({ kind, columns, source, store }: RowDifference): string {
  if (kind !== 'different') return ''
  return columns
    .map((name) => `${name}: ${short(show(field(source, name)))} ≠ ${short(show(field(store, name)))}`)
    .join('; ')
}

function values(key: unknown): string {
  return Object.values((key ?? {}) as Record<string, unknown>)
    .map(show)
    .join(', ')
}

function field(row: unknown, name: string): unknown {
  return (row as Record<string, unknown> | null)?.[name]
}

function show(value: unknown): string {
  return value === null || value === undefined
    ? 'NULL'
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value)
}

function counted(count: number, one: string, many: string): string {
  return `${integer(count)} ${count === 1 ? one : many}`
}

function short(text: string): string {
  return text.length > 60 ? `${text.slice(0, 59)}…` : text
}

function duration(ms: number): string {
  const units = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ] as const
  const [unit, factor] = units.find(([, size]) => ms % size === 0) ?? ['ms', 1]
  return `${ms / factor}${unit}`
}
