/** What a consumer gets of an output: `where`, then `select`. */
import type { Column } from '../core/contracts.ts'
import type { JobConsumer } from '../core/job/job.ts'
import { ident } from '../engine/sql-text.ts'

/** Names and SQL of what is selected: the columns themselves where the job selects nothing. */
export function selected(
  { select }: Pick<JobConsumer, 'select'>,
  columns: readonly Pick<Column, 'name'>[],
): readonly { readonly name: string; readonly sql: string }[] {
  if (select === undefined) return columns.map(({ name }) => ({ name, sql: ident(name) }))
  return select.map(({ name, expression }) => ({ name, sql: `(${expression.sql}\n)` }))
}

/** SELECT of the rows from `relation` (a table or a sub-query). */
export function rowsFor(consumer: JobConsumer, columns: readonly Pick<Column, 'name'>[], relation: string): string {
  const items = selected(consumer, columns).map(({ name, sql }) => `${sql} AS ${ident(name)}`)
  return `SELECT ${items.join(', ')} FROM ${relation} AS batch${whereSql(consumer)}`
}

export function whereSql({ where }: Pick<JobConsumer, 'where'>): string {
  return where === undefined ? '' : ` WHERE (${where.sql}\n)`
}
