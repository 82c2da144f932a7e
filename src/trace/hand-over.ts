/** Rows from one engine to another, exactly: each is locked into its own folders, and Parquet cannot hold every type. */
import { join } from 'node:path'
import { exactItems, type TypedColumn } from '../engine/exact.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'

export interface HandOver {
  readonly from: Session
  readonly to: Session
  /** Readable for both. */
  readonly folder: string
  /** Temp table that is made. */
  readonly table: string
}

/** `select` must give the columns; they arrive with these types, NULL where a value is none of its type. */
export async function handOver(
  { from, to, folder, table }: HandOver,
  select: string,
  columns: readonly TypedColumn[],
): Promise<void> {
  const file = join(folder, `${table}.parquet`)
  const cast = columns.map(({ name, type }) => `TRY_CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
  const relation = `(SELECT ${cast.join(', ')} FROM (${select}))`
  const items = await exactItems(from, relation, columns, 'parquet')
  await from.run(`COPY (SELECT ${items?.join(', ') ?? '*'} FROM ${relation}) TO ${literal(file)} (FORMAT parquet)`)
  const back = columns.map(({ name, type }) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
  await to.run(
    `CREATE OR REPLACE TEMP TABLE ${ident(table)} AS SELECT ${back.join(', ')} FROM read_parquet(${literal(file)})`,
  )
}

/** Columns that both have, with the types of the second. */
export function commonColumns(one: readonly TypedColumn[], other: readonly TypedColumn[]): readonly TypedColumn[] {
  const names = new Set(one.map(({ name }) => name.toLowerCase()))
  return other.filter(({ name }) => names.has(name.toLowerCase()))
}

/** NULL equals NULL. */
export function sameRow(one: string, other: string, columns: readonly { readonly name: string }[]): string {
  if (columns.length === 0) return 'true'
  return columns.map(({ name }) => `${one}.${ident(name)} IS NOT DISTINCT FROM ${other}.${ident(name)}`).join(' AND ')
}

export function columnList(columns: readonly { readonly name: string }[]): string {
  return columns.map(({ name }) => ident(name)).join(', ')
}
