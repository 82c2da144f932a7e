/** A table of ClickHouse: made from the columns of a batch as the job states it, and fitted later. */
import { AdflowError } from '../../core/errors.ts'
import { type FoundTable, findColumns, findTable, hasDatabase } from './catalog.ts'
import { takes, wider } from './column-fit.ts'
import type { ClickHouse } from './connect.ts'
import { createTableSql, labelOf, type Making, onCluster, type TableName, type TablePlan, tableSql } from './ddl.ts'
import { ident } from './sql-text.ts'
import type { ClickHouseColumn } from './types.ts'
import { isChanging } from './views.ts'

export interface FitPlan extends TablePlan {
  readonly create: boolean
  readonly evolve: boolean
}

/** Makes the table, or makes it take `columns` without loss; `known`: what was just found under its name. @throws AdflowError STORE_MISMATCH; then nothing was changed */
export async function fitTable(
  clickhouse: ClickHouse,
  name: TableName,
  columns: readonly ClickHouseColumn[],
  {
    plan,
    making,
    known,
  }: {
    readonly plan: FitPlan
    readonly making: Making
    readonly known?: { readonly table: FoundTable | undefined } | undefined
  },
): Promise<FoundTable> {
  const label = labelOf(name)
  const before = known === undefined ? await findTable(clickhouse, name) : known.table
  if (before === undefined) {
    if (!plan.create) throw missingTable(name)
    await clickhouse.command(`make ${label}`, createTableSql(name, columns, plan, making))
  } else {
    const changes = await changesFor(clickhouse, name, columns, plan)
    if (changes.length === 0) return before
    for (const change of changes)
      await clickhouse.command(
        `change ${label}`,
        `ALTER TABLE ${tableSql(name)}${onCluster(making.cluster)} ${change}`,
        // Readers and the next batch must see it.
        { alter_sync: '2', mutations_sync: '2' },
      )
  }
  const found = await findTable(clickhouse, name)
  if (found === undefined) throw mismatch(`the table ${label} is gone again`, 'see who drops it')
  return found
}

/** Each repeats harmlessly. */
export async function changesFor(
  clickhouse: ClickHouse,
  name: TableName,
  columns: readonly ClickHouseColumn[],
  { evolve }: Pick<FitPlan, 'evolve'>,
): Promise<readonly string[]> {
  const label = labelOf(name)
  const found = await findColumns(clickhouse, name)
  const existing = new Map(found.map((column) => [column.name, column.type]))
  const come = new Set(columns.map((column) => column.name))
  for (const { name: column, inPartitionKey, defaultExpression } of found)
    if (inPartitionKey && !come.has(column) && isChanging(defaultExpression))
      throw mismatch(
        `the partitions of ${label} follow ${column}, which is ${defaultExpression} where a batch does not have it: a repeated batch could be in two of them`,
        'let the job give the column a value that follows from the row',
      )
  const changes: string[] = []
  for (const column of columns) {
    const have = existing.get(column.name)
    if (have === undefined) {
      if (!evolve)
        throw mismatch(
          `the table ${label} has no column ${column.name} (${column.type})`,
          'add it, or set `evolve: true`',
        )
      changes.push(`ADD COLUMN IF NOT EXISTS ${ident(column.name)} ${column.type}`)
    } else if (!takes(have, column)) {
      const type = wider(have, column)
      if (type === undefined || !evolve)
        throw mismatch(
          `the table ${label} does not fit: column ${column.name} is ${have.replaceAll(/\s*\n\s*/g, ' ')}, the batch has ${column.type}`,
          type === undefined
            ? `cast ${column.name} in the job, or change the table`
            : 'set `evolve: true`, or change the table',
        )
      changes.push(`MODIFY COLUMN ${ident(column.name)} ${type}`)
    }
  }
  return changes
}

export function missingTable(name: TableName): AdflowError {
  return mismatch(`the table ${labelOf(name)} does not exist`, 'create it, or set `create: missing`')
}

export async function makeDatabase(
  clickhouse: ClickHouse,
  database: string,
  cluster: string | undefined,
): Promise<void> {
  if (await hasDatabase(clickhouse, database)) return
  await clickhouse.command(
    `make the database ${database}`,
    `CREATE DATABASE IF NOT EXISTS ${ident(database)}${onCluster(cluster)}`,
  )
}

function mismatch(message: string, hint: string): AdflowError {
  return new AdflowError('STORE_MISMATCH', message, { hint })
}
