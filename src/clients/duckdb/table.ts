/** A table of an attached DuckDB file: made from the columns of a batch, and fitted to them later. */
import type { EngineConnection } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { TypedColumn } from '../../engine/exact.ts'
import { ident, literal } from '../../engine/sql-text.ts'
import { widened } from './widen.ts'

export interface TableName {
  /** Name under which the file is attached. */
  readonly database: string
  readonly schema: string
  readonly table: string
}

export function tableSql({ database, schema, table }: TableName): string {
  return [database, schema, table].map(ident).join('.')
}

/** Names and types of a relation as the engine has them. Reads no data. */
export async function columnsOf(engine: EngineConnection, relation: string): Promise<readonly TypedColumn[]> {
  const rows = await engine.rows(`DESCRIBE SELECT * FROM ${relation}`)
  return rows.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }))
}

/** Empty where there is no such table. Never fails: a file that could not be attached has no tables. */
export async function tableColumns(engine: EngineConnection, name: TableName): Promise<readonly TypedColumn[]> {
  const rows = await engine.rows(
    `SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = ${literal(name.database)} AND lower(schema_name) = lower(${literal(name.schema)}) AND lower(table_name) = lower(${literal(name.table)}) ORDER BY column_index`,
  )
  return rows.map((row) => ({ name: String(row['column_name']), type: String(row['data_type']) }))
}

export interface FitOptions {
  /** New columns are added and types widened. */
  readonly evolve: boolean
  /** The table as people know it. */
  readonly label: string
}

/** Makes the table, or makes it take `columns` without loss. Adding a column and widening a type repeat harmlessly, so
 *  this needs no transaction of its own. @throws AdflowError STORE_MISMATCH; then nothing has been changed. */
export async function fitTable(
  engine: EngineConnection,
  name: TableName,
  columns: readonly TypedColumn[],
  { evolve, label }: FitOptions,
): Promise<void> {
  const table = tableSql(name)
  const existing = await tableColumns(engine, name)
  if (existing.length === 0) {
    const definitions = columns.map((column) => `${ident(column.name)} ${column.type}`)
    await engine.run(`CREATE TABLE IF NOT EXISTS ${table} (${definitions.join(', ')})`)
    return
  }
  for (const change of changesFor(existing, columns, { evolve, label }))
    await engine.run(`ALTER TABLE ${table} ${change}`)
}

/** What ALTER TABLE has to do so that a table takes `columns` without loss. @throws AdflowError STORE_MISMATCH */
export function changesFor(
  existing: readonly TypedColumn[],
  columns: readonly TypedColumn[],
  { evolve, label }: FitOptions,
): readonly string[] {
  const byName = new Map(existing.map((column) => [column.name.toLowerCase(), column]))
  const changes: string[] = []
  for (const column of columns) {
    const found = byName.get(column.name.toLowerCase())
    if (found === undefined) {
      if (!evolve) throw mismatch(label, `has no column ${column.name} (${column.type})`, 'add it, or set evolve: true')
      changes.push(`ADD COLUMN IF NOT EXISTS ${ident(column.name)} ${column.type}`)
      continue
    }
    const type = widened(found.type, column.type)
    const what = `column ${found.name} is ${found.type}, the batch has ${column.type}`
    if (type === undefined)
      throw mismatch(label, what, `cast ${column.name} to ${found.type} in the job, or change the table`)
    if (type === found.type) continue
    if (!evolve) throw mismatch(label, what, `cast ${column.name} to ${found.type} in the job, or set evolve: true`)
    changes.push(`ALTER COLUMN ${ident(found.name)} SET DATA TYPE ${type}`)
  }
  return changes
}

/** Batches were collected to take the place of a table, and their run never became complete. */
export function unfinishedReplace({ schema, table }: TableName, file: string): AdflowError {
  return new AdflowError('STORE_MISMATCH', `${schema}.${table} holds batches of a replace that never became complete`, {
    hint: `run the job once more with \`write: replace\`, or take over or drop that table by hand in ${file}`,
  })
}

function mismatch(label: string, what: string, hint: string): AdflowError {
  return new AdflowError('STORE_MISMATCH', `the table ${label} does not fit: ${what}`, { hint })
}
