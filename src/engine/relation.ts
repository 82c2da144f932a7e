/** Relations: SQL under construction. Nothing here runs; the runner does. */
import type { Column, Relation } from '../core/contracts.ts'
import { ident } from './sql-text.ts'

/** First column of every row relation: the 0-based ordinal of the record in its chunk. It never reaches a store. */
export const ROW = '__row'

export function columnNamed(relation: Relation, name: string): Column | undefined {
  return relation.columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
}

/** `SELECT __row, <items> FROM (input)`: a step that keeps every row. */
export function project(
  input: Relation,
  items: readonly { readonly column: Column; readonly sql: string }[],
): Relation {
  const select = items.map(({ column, sql }) => (sql === ident(column.name) ? sql : `${sql} AS ${ident(column.name)}`))
  return {
    sql: `SELECT ${[ROW, ...select].join(', ')} FROM (${input.sql})`,
    columns: items.map(({ column }) => column),
  }
}

/** The same columns, fewer rows. */
export function restrict(input: Relation, predicate: string): Relation {
  return { sql: `SELECT * FROM (${input.sql}) WHERE ${predicate}`, columns: input.columns }
}

/** The columns without ROW, as a store sees them. */
export function withoutRow(relation: Relation): string {
  return `SELECT ${relation.columns.map((column) => ident(column.name)).join(', ')} FROM (${relation.sql})`
}

/** The columns without ROW, but ROW is evaluated for each row: in a clean batch it raises where a record is not clean. */
export function withRowSeen(relation: Relation): string {
  const [first = '', ...others] = relation.columns.map((column) => ident(column.name))
  const items = [`CASE WHEN ${ROW} IS NOT NULL THEN ${first} END AS ${first}`, ...others]
  return `SELECT ${items.join(', ')} FROM (${relation.sql})`
}

/** The same in the order of the records: joins may have changed it, and a merge lets the last row of a key win. */
export function inOrder(relation: Relation): string {
  return `${withoutRow(relation)} ORDER BY ${ROW}`
}

/** An empty relation of these columns: what lint types expressions against. */
export function emptyRelation(columns: readonly Column[]): Relation {
  const select = columns.map((column) => `NULL::${column.type} AS ${ident(column.name)}`)
  return { sql: `SELECT ${[`NULL::BIGINT AS ${ROW}`, ...select].join(', ')} WHERE false`, columns }
}
