/** Repeated runs, for people. */
import type { DiffReport } from '../reconcile/replay-diff.ts'
import type { VerifyReport } from '../reconcile/replay-verify.ts'
import { integer, table } from './table.ts'

const SHOWN = 20

export function verifyText(report: VerifyReport): string {
  const { job, run, batches, records, stores, differing, unreadable, equal } = report
  const compared = Object.entries(stores).map(([id, count]) => `${id} (${integer(count)})`)
  const lines = [
    `${job}: run ${run} repeated: ${count(batches, 'batch', 'batches')}, ${count(records, 'record')}`,
    `compared: the books${compared.length === 0 ? '' : `, ${compared.join(', ')}`}`,
  ]
  for (const [id, why] of Object.entries(report.not_compared)) lines.push(`not compared: ${id}: ${why}`)
  if (report.changed_secrets.length > 0)
    lines.push(`secrets are other ones by now: ${report.changed_secrets.join(', ')}; what is made with them differs`)
  for (const [what, version] of Object.entries(report.made_by)) lines.push(`the run was made by ${what} ${version}`)
  for (const { lane, from, to, books, stores: found } of differing.slice(0, SHOWN)) {
    lines.push('', `${lane} [${from}, ${to}) differs:`)
    for (const [name, [booked, now]] of Object.entries(books))
      lines.push(`  ${name}: ${JSON.stringify(booked)} in the ledger, ${JSON.stringify(now)} now`)
    for (const [id, { missing, extra, rows }] of Object.entries(found)) {
      lines.push(
        `  ${id}: ${count(missing, 'row is', 'rows are')} not there, ${count(extra, 'row is', 'rows are')} there that the run did not give`,
      )
      for (const { kind, row } of rows) lines.push(`    ${kind === 'missing' ? '-' : '+'} ${JSON.stringify(row)}`)
    }
  }
  if (differing.length > SHOWN) lines.push(`… and ${differing.length - SHOWN} more batches (--json has them all)`)
  for (const { lane, from, to, code, message } of unreadable.slice(0, SHOWN))
    lines.push(`cannot be repeated: ${lane} [${from}, ${to}): ${code}: ${message}`)
  lines.push(
    '',
    equal
      ? 'equal'
      : differing.length > 0
        ? `${count(differing.length, 'batch differs', 'batches differ')}`
        : 'not all of it could be repeated',
  )
  return lines.join('\n')
}

export function diffText(report: DiffReport): string {
  const { job, run, other, store, key, added, removed, changed, sums, rows } = report
  const lines = [
    `${job}: run ${run} through ${other}, as ${store} gets it${key === null ? '' : `, by ${key.join(', ')}`}`,
    '',
    table(
      [{ name: 'rows' }, { name: 'count', align: 'right' }],
      [
        ['before', report.before],
        ['after', report.after],
        ['added', added],
        ['removed', removed],
        ['changed', changed],
      ],
    ),
  ]
  const names = Object.entries(report.changed_columns).map(([name, count]) => `${name} (${integer(count)})`)
  if (names.length > 0) lines.push(`changed columns: ${names.join(', ')}`)
  if (report.columns.added.length > 0) lines.push(`new columns: ${report.columns.added.join(', ')}`)
  if (report.columns.removed.length > 0) lines.push(`columns that are gone: ${report.columns.removed.join(', ')}`)
  for (const [rule, [before, after]] of Object.entries(report.quarantined))
    if (before !== after) lines.push(`quarantined by ${rule}: ${integer(before)} → ${integer(after)}`)
  if (sums.length > 0)
    lines.push(
      '',
      table(
        [
          ...Object.keys(sums[0]?.by ?? {}).map((name) => ({ name })),
          { name: 'sum of' },
          { name: 'before', align: 'right' as const },
          { name: 'after', align: 'right' as const },
        ],
        sums
          .slice(0, SHOWN)
          .map(({ by, column, before, after }) => [
            ...Object.values(by).map(String),
            column,
            before ?? '',
            after ?? '',
          ]),
      ),
    )
  if (sums.length > SHOWN) lines.push(`… and ${sums.length - SHOWN} more (--json has them all)`)
  for (const { kind, before, after } of rows) {
    if (before !== null) lines.push(`${kind === 'changed' ? '~' : '-'} ${JSON.stringify(before)}`)
    if (after !== null) lines.push(`${kind === 'changed' ? '→' : '+'} ${JSON.stringify(after)}`)
  }
  if (added + removed + changed > rows.length)
    lines.push(
      `… ${integer(added + removed + changed - rows.length)} more rows${report.out === null ? ': --out writes all' : ''}`,
    )
  if (report.out !== null) lines.push(`all of them: ${report.out}`)
  if (report.changed_secrets.length > 0)
    lines.push(`secrets are other ones by now: ${report.changed_secrets.join(', ')}`)
  return lines.join('\n')
}

function count(value: number, one: string, many = `${one}s`): string {
  return `${integer(value)} ${value === 1 ? one : many}`
}
