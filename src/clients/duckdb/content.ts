/**
 * What a table holds of a batch, as a count and a sum of hashes over its rows, read back from the table in the transaction that
 * wrote them. Columns are hashed with the types that the batch had: a table that is widened or gets columns later gives the same.
 */
import type { EngineConnection } from '../../core/contracts.ts'
import type { ContentDigest } from '../../core/store-contract.ts'
import type { TypedColumn } from '../../engine/exact.ts'
import { ident, literal } from '../../engine/sql-text.ts'
import { type LedgerPlace, ledgerSql } from './batch-ledger.ts'
import { type TableName, tableColumns, tableSql } from './table.ts'

export interface HashedTable {
  readonly table: TableName
  readonly batchColumn: string
}

/** The engine promises no hash across its versions, so the version is part of the name. */
export async function hashName(engine: EngineConnection): Promise<string> {
  const [row] = await engine.rows('SELECT version() AS v')
  return `duckdb ${row?.['v']} sum of hashes`
}

/** A batch's columns as they are kept beside it. */
export function hashedList(columns: readonly TypedColumn[], batchColumn: string): string {
  const own = columns.filter(({ name }) => name.toLowerCase() !== batchColumn.toLowerCase())
  return JSON.stringify(own.map(({ name, type }) => [name, type]))
}

function rowHash(hashed: string, row = ''): string {
  const columns = JSON.parse(hashed) as readonly (readonly [string, string])[]
  return `hash(${columns.map(([name, type]) => `CAST(${row}${ident(name)} AS ${type})`).join(', ')})`
}

export async function contentOf(
  engine: EngineConnection,
  { table, batchColumn }: HashedTable,
  number: bigint,
  hashed: string,
): Promise<ContentDigest> {
  const [row] = await engine.rows(
    `SELECT count(*) AS n, coalesce(sum(${rowHash(hashed)}), 0)::VARCHAR AS s FROM ${tableSql(table)} WHERE ${ident(batchColumn)} = (${number})`,
  )
  return { rows: Number(row?.['n'] ?? 0), algorithm: await hashName(engine), value: String(row?.['s'] ?? '0') }
}

/** Rows of other batches that a merge of these keys is about to replace, by the number of their batch. */
export async function aboutToReplace(
  engine: EngineConnection,
  { table, batchColumn }: HashedTable,
  place: LedgerPlace,
  batch: { readonly relation: string; readonly key: readonly string[]; readonly number: bigint },
): Promise<NonNullable<ContentDigest['replaced']>> {
  const lists = await hashedLists(engine, place)
  const same = batch.key.map((name) => `came.${ident(name)} IS NOT DISTINCT FROM held.${ident(name)}`).join(' AND ')
  const column = `held.${ident(batchColumn)}`
  const rows = await engine.rows(
    `SELECT ${column}::VARCHAR AS batch, count(*) AS n, coalesce(sum(${anyHash(lists)}), 0)::VARCHAR AS s FROM ${tableSql(table)} AS held LEFT JOIN ${numbersOf(place)} AS b ON b.number = ${column} WHERE ${column} IS DISTINCT FROM (${batch.number}) AND EXISTS (SELECT 1 FROM ${batch.relation} AS came WHERE ${same}) GROUP BY 1`,
  )
  return Object.fromEntries(
    rows.map((row) => [numberText(row['batch']), { rows: Number(row['n']), value: String(row['s']) }]),
  )
}

export interface FoundRows {
  readonly rows: number
  readonly value: string
}

/** By number of batch as text; empty for rows without one. */
export async function foundContents(
  engine: EngineConnection,
  { table, batchColumn }: HashedTable,
  place: LedgerPlace,
): Promise<ReadonlyMap<string, FoundRows>> {
  const known = new Set((await tableColumns(engine, table)).map(({ name }) => name.toLowerCase()))
  const readable = (hashed: string) =>
    (JSON.parse(hashed) as readonly [string, string][]).every(([name]) => known.has(name.toLowerCase()))
  const lists = (await hashedLists(engine, place)).filter(readable)
  const column = `held.${ident(batchColumn)}`
  const rows = await engine.rows(
    `SELECT ${column}::VARCHAR AS batch, count(*) AS n, coalesce(sum(${anyHash(lists)}), 0)::VARCHAR AS s FROM ${tableSql(table)} AS held LEFT JOIN ${numbersOf(place)} AS b ON b.number = ${column} GROUP BY 1`,
  )
  return new Map(rows.map((row) => [numberText(row['batch']), { rows: Number(row['n']), value: String(row['s']) }]))
}

function numberText(value: unknown): string {
  return value === null || value === undefined ? '' : String(value)
}

/** Most often one: a batch with other columns is rare. */
async function hashedLists(engine: EngineConnection, place: LedgerPlace): Promise<readonly string[]> {
  const rows = await engine.rows(
    `SELECT hashed, count(*) AS n FROM ${ledgerSql(place.database)} WHERE target = ${literal(place.target)} AND hashed IS NOT NULL GROUP BY 1 ORDER BY n DESC, hashed`,
  )
  return rows.map((row) => String(row['hashed']))
}

/** By the columns of the row's own batch; a batch whose entry is gone by those of most batches. */
function anyHash(lists: readonly string[]): string {
  const [first, ...others] = lists
  if (first === undefined) return '0'
  const cases = others.map((hashed) => `WHEN ${literal(hashed)} THEN ${rowHash(hashed, 'held.')}`)
  return cases.length === 0
    ? rowHash(first, 'held.')
    : `CASE b.hashed ${cases.join(' ')} ELSE ${rowHash(first, 'held.')} END`
}

function numbersOf({ database, target }: LedgerPlace): string {
  return `(SELECT ('0x' || token[1:16])::UBIGINT::BIT::BIGINT AS number, any_value(hashed) AS hashed FROM ${ledgerSql(database)} WHERE target = ${literal(target)} GROUP BY 1)`
}
