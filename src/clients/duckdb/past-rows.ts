/** What a table still has of batches of the past, told by the column that numbers them. */
import type { EngineConnection, LoadBatch } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { BatchComparison } from '../../core/store-contract.ts'
import { tokenNumber } from '../../core/token.ts'
import { sameRows } from '../../engine/same-rows.ts'
import { ident } from '../../engine/sql-text.ts'
import { lastOfEachKey, mergeBatch } from './merge.ts'
import { columnsOf, type TableName, tableColumns, tableSql } from './table.ts'

export interface NumberedTable {
  readonly target: TableName
  /** The table as people know it. */
  readonly label: string
  readonly batchColumn: string
  /** Columns by which later batches replace rows; undefined: rows are only added. */
  readonly key: readonly string[] | undefined
}

/** Rows by token. Where the table is merged into, or does not number its rows, nobody can say. */
export async function countRows(
  engine: EngineConnection,
  { target, batchColumn }: NumberedTable,
  tokens: readonly string[],
): Promise<ReadonlyMap<string, number> | undefined> {
  const columns = await tableColumns(engine, target)
  if (columns.length === 0) return new Map()
  if (!columns.some(({ name }) => name.toLowerCase() === batchColumn.toLowerCase())) return undefined
  const number = ident(batchColumn)
  const rows = await engine.rows(
    `SELECT ${number}::VARCHAR AS batch, count(*) AS n FROM ${tableSql(target)} WHERE ${number} IN (${numbers(tokens)}) GROUP BY 1`,
  )
  const byNumber = new Map(rows.map((row) => [String(row['batch']), Number(row['n'])]))
  return new Map(tokens.map((token) => [token, byNumber.get(String(tokenNumber(token))) ?? 0]))
}

/** Puts the rows of a numbered relation in the place of what the table has of the batch. In the caller's transaction. */
export async function replaceRows(
  { engine, token }: LoadBatch,
  { target, batchColumn, key }: NumberedTable,
  relation: string,
  newer: readonly string[],
): Promise<number> {
  const table = tableSql(target)
  if (key === undefined) {
    await engine.run(`DELETE FROM ${table} WHERE ${ident(batchColumn)} = ${tokenNumber(token)}`)
    const [row] = await engine.rows(`INSERT INTO ${table} BY NAME SELECT * FROM ${relation} AS batch`)
    return Number(row?.['Count'] ?? 0)
  }
  const number = `target.${ident(batchColumn)}`
  const when = `(${number} IS NULL OR ${number} NOT IN (${numbers(newer)}))`
  return mergeBatch(engine, target, { relation, columns: await columnsOf(engine, relation), key, when })
}

/** Rows of the batch that the table has not, and rows that it has of the batch beyond these; on the columns of the batch. */
export async function differences(
  { engine, relation, token }: LoadBatch,
  { target, label, batchColumn, key }: NumberedTable,
): Promise<BatchComparison> {
  const own = await columnsOf(engine, relation)
  const types = new Map((await tableColumns(engine, target)).map(({ name, type }) => [name.toLowerCase(), type]))
  const gone = [...own.map(({ name }) => name), batchColumn].find((name) => !types.has(name.toLowerCase()))
  if (gone !== undefined)
    throw types.size === 0
      ? new AdflowError('STORE_UNAVAILABLE', `the table ${label} is gone`, { hint: 'restore it, or load it anew' })
      : new AdflowError('STORE_MISMATCH', `the table ${label} has no column ${gone}: its rows cannot be compared`, {
          hint: 'rows that do not know their batch can only be reconciled by key',
        })
  const names = own.map(({ name }) => ident(name)).join(', ')
  const typed = own.map(({ name }) => `CAST(${ident(name)} AS ${types.get(name.toLowerCase())}) AS ${ident(name)}`)
  const table = tableSql(target)
  const mine = `${ident(batchColumn)} = ${tokenNumber(token)}`
  const held = `SELECT ${names} FROM ${table} WHERE ${mine}`
  const keys = key?.map(ident).join(', ')
  const last = keys === undefined ? `SELECT * FROM ${relation} AS batch` : lastOfEachKey(relation, keys)
  const came = `SELECT ${typed.join(', ')} FROM (${last}) AS batch`
  const missing = `${came} EXCEPT ALL ${held}`
  const extra = `${held} EXCEPT ALL ${came}`
  const same = sameRows(came, held)
  if (key === undefined) return { same, missing, extra }
  const equal = key.map((name) => `other.${ident(name)} IS NOT DISTINCT FROM batch.${ident(name)}`).join(' AND ')
  const replaced = `EXISTS (SELECT 1 FROM ${table} AS other WHERE ${equal} AND other.${mine.replace('=', 'IS DISTINCT FROM')})`
  return { same, missing: `SELECT * FROM (${missing}) AS batch WHERE NOT ${replaced}`, extra }
}

function numbers(tokens: readonly string[]): string {
  return `SELECT unnest([${tokens.map((token) => tokenNumber(token)).join(', ')}]::BIGINT[])`
}
