/** A table of PostgreSQL: made from the columns of a batch, with partitions and indexes as the job states, and fitted later. */
import type { PoolClient } from 'pg'
import { AdflowError } from '../../core/errors.ts'
import { ident } from '../../engine/sql-text.ts'
import { type IndexOption, indexSql } from './indexes.ts'
import { type PartitionOption, partitionBy } from './partitions.ts'
import type { PostgresColumn } from './types.ts'

export interface TableName {
  readonly schema: string
  readonly table: string
}

export interface TablePlan {
  readonly create: boolean
  readonly evolve: boolean
  readonly key: readonly string[] | undefined
  readonly partition: PartitionOption | undefined
  readonly indexes: readonly IndexOption[]
}

export function tableSql({ schema, table }: TableName): string {
  return `${ident(schema)}.${ident(table)}`
}

/** name → type, in the order of the table; empty where there is none. */
export async function tableColumns(client: PoolClient, name: TableName): Promise<ReadonlyMap<string, string>> {
  const { rows } = await client.query<{ name: string; type: string }>(
    `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [tableSql(name)],
  )
  return new Map(rows.map((row) => [row.name, row.type]))
}

/** Makes the table, or makes it take `columns` without loss. @throws AdflowError STORE_MISMATCH; then nothing was changed */
export async function fitTable(
  client: PoolClient,
  name: TableName,
  columns: readonly PostgresColumn[],
  plan: TablePlan,
): Promise<void> {
  const existing = await tableColumns(client, name)
  if (existing.size === 0) {
    if (!plan.create) throw missingTable(name)
    await createTable(client, name, columns, plan)
    return
  }
  const changes = changesFor(existing, name, columns, plan)
  if (changes.length > 0) await client.query(`ALTER TABLE ${tableSql(name)} ${changes.join(', ')}`)
}

export function missingTable({ schema, table }: TableName): AdflowError {
  return mismatch(`the table ${schema}.${table} does not exist`, 'create it, or set `create: missing`')
}

/** Batches were collected to take the place of a table, and their run never became complete. */
export function unfinishedReplace({ schema, table }: TableName): AdflowError {
  return new AdflowError('STORE_MISMATCH', `${schema}.${table} holds batches of a replace that never became complete`, {
    hint: 'run the job once more with `write: replace`, or take over or drop that table by hand',
  })
}

/** What ALTER TABLE has to do so that a table takes `columns` without loss. @throws AdflowError STORE_MISMATCH */
export function changesFor(
  existing: ReadonlyMap<string, string>,
  { schema, table }: TableName,
  columns: readonly PostgresColumn[],
  { evolve }: Pick<TablePlan, 'evolve'>,
): readonly string[] {
  const label = `${schema}.${table}`
  const changes: string[] = []
  for (const { name: column, type } of columns) {
    const found = existing.get(column)
    if (found === undefined) {
      if (!evolve)
        throw mismatch(`the table ${label} has no column ${column} (${type})`, 'add it, or set `evolve: true`')
      changes.push(`ADD COLUMN IF NOT EXISTS ${ident(column)} ${type}`)
    } else if (!takes(found, type)) {
      const wider = takes(type, found) ? type : undefined
      if (wider === undefined || !evolve)
        throw mismatch(
          `the table ${label} does not fit: column ${column} is ${found}, the batch has ${type}`,
          wider === undefined
            ? `cast ${column} in the job, or change the table`
            : 'set `evolve: true`, or change the table',
        )
      changes.push(`ALTER COLUMN ${ident(column)} TYPE ${wider}`)
    }
  }
  return changes
}

async function createTable(
  client: PoolClient,
  name: TableName,
  columns: readonly PostgresColumn[],
  plan: TablePlan,
): Promise<void> {
  const definitions = columns.map(({ name: column, type }) => `${ident(column)} ${type}`)
  await client.query(`CREATE SCHEMA IF NOT EXISTS ${ident(name.schema)}`)
  await client.query(
    `CREATE TABLE IF NOT EXISTS ${tableSql(name)} (${definitions.join(', ')})${partitionBy(plan.partition)}`,
  )
  // On a partitioned table an index can only be unique with the column of the partition in it: there the key gets a plain one.
  if (plan.key !== undefined)
    await client.query(
      `CREATE ${plan.partition === undefined ? 'UNIQUE ' : ''}INDEX IF NOT EXISTS ${ident(`${name.table}_key`)} ON ${tableSql(name)} (${plan.key.map(ident).join(', ')})`,
    )
  for (const [index, option] of plan.indexes.entries()) await client.query(indexSql(name, option, index))
}

const INTEGERS = ['smallint', 'integer', 'bigint']
const TEXTS = /^(?:text|character varying.*|character.*|citext)$/

/** true: a column of type `have` holds every value of `come` exactly. */
function takes(have: string, come: string): boolean {
  if (have === come || (TEXTS.test(have) && come === 'text')) return true
  if (have === 'double precision' && come === 'real') return true
  if ((have === 'json' && come === 'jsonb') || have === 'numeric') return have === 'json' || isNumber(come)
  const [rank, other] = [INTEGERS.indexOf(have), INTEGERS.indexOf(come)]
  if (rank >= 0 && other >= 0) return rank >= other
  const [a, b] = [digits(have), digits(come)]
  return a !== undefined && b !== undefined && !INTEGERS.includes(have) && a.whole >= b.whole && a.scale >= b.scale
}

function isNumber(type: string): boolean {
  return digits(type) !== undefined
}

function digits(type: string): { readonly whole: number; readonly scale: number } | undefined {
  const integer = { smallint: 5, integer: 10, bigint: 19 }[type]
  if (integer !== undefined) return { whole: integer, scale: 0 }
  const [, precision, scale = '0'] = /^numeric\((\d+)(?:,(\d+))?\)$/.exec(type) ?? []
  return precision === undefined ? undefined : { whole: Number(precision) - Number(scale), scale: Number(scale) }
}

function mismatch(message: string, hint: string): AdflowError {
  return new AdflowError('STORE_MISMATCH', message, { hint })
}
