/** Whether a table of ClickHouse takes what a job writes, whether its user may, and for how long it refuses a repetition. */
import type { Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import type { Findings } from '../../core/findings.ts'
import { NEXT_TABLE } from '../../core/table-loader.ts'
import { LEDGER_TABLE } from './batch-ledger.ts'
import { type FoundTable, findTable, hasDatabase } from './catalog.ts'
import type { ClickHouse } from './connect.ts'
import { DURABLE, labelOf, type TableName, tableSql } from './ddl.ts'
import { ident } from './sql-text.ts'
import { changesFor, missingTable } from './table.ts'
import type { ClickHouseColumn } from './types.ts'
import { fedTables } from './views.ts'

export interface TableQuestion {
  readonly target: TableName
  readonly write: 'append' | 'merge' | 'replace'
  readonly create: boolean
  readonly evolve: boolean
  readonly window: number
  readonly views: readonly { readonly name: string; readonly to: string }[]
  /** undefined: not known. */
  readonly columns: readonly ClickHouseColumn[] | undefined
}

interface Found {
  readonly database: boolean
  readonly table: FoundTable | undefined
  readonly ledger: FoundTable | undefined
  readonly changes: readonly string[]
  /** The table, and behind it what its views feed. */
  readonly fed: readonly FoundTable[]
}

export async function diagnoseTable(
  clickhouse: ClickHouse,
  question: TableQuestion,
  at: Findings,
): Promise<readonly Finding[]> {
  let found: Found
  try {
    found = await look(clickhouse, question)
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    return [at.failure('target', error)]
  }
  return [
    target(at, question, found),
    await permission(clickhouse, at, question, found),
    ...(found.table === undefined ? [] : [durability(at, found.table)]),
    dedupWindow(at, question, found),
  ]
}

async function look(clickhouse: ClickHouse, question: TableQuestion): Promise<Found> {
  const { columns, create, target: name, write } = question
  const ledgerName = { database: name.database, table: LEDGER_TABLE }
  const database = await hasDatabase(clickhouse, name.database)
  const table = await findTable(clickhouse, name)
  const ledger = await findTable(clickhouse, ledgerName)
  if (!create && write !== 'replace' && table === undefined) throw missingTable(name)
  const appended = write !== 'replace' && table !== undefined
  const changes = appended && columns !== undefined ? await changesFor(clickhouse, name, columns, question) : []
  const fed = appended ? await fedTables(clickhouse, table) : []
  return { database, table, ledger, changes, fed }
}

function target(
  at: Findings,
  { target: name, views }: TableQuestion,
  { database, table, ledger, changes }: Found,
): Finding {
  const made = [
    ...(database ? [] : [`database ${name.database}`]),
    ...(table === undefined ? [`table ${labelOf(name)}`, ...views.map((view) => `view ${view.name}`)] : []),
    ...(ledger === undefined ? [`table ${name.database}.${LEDGER_TABLE}`] : []),
    ...changes.map((change) => change.replace(' IF NOT EXISTS', '')),
  ]
  return at.ok('target', made.length === 0 ? 'the table is there and fits' : `would be made: ${made.join(', ')}`)
}

async function permission(
  clickhouse: ClickHouse,
  at: Findings,
  question: TableQuestion,
  found: Found,
): Promise<Finding> {
  const missing: string[] = []
  try {
    for (const need of needs(question, found)) if (!(await clickhouse.may(need))) missing.push(need)
  } catch (error) {
    if (!(error instanceof AdflowError) || error.retryable) throw error
    return at.unknown(
      'permission',
      'this server does not say what a user may do',
      'compare SHOW GRANTS with the page of the loader',
    )
  }
  if (missing.length === 0) return at.ok('permission', 'the user may do what the job does')
  const list = missing.map((need) => need.replaceAll('`', ''))
  return at.failed(
    'permission',
    'STORE_DENIED',
    `the user lacks ${list.join(', ')}`,
    missing.map((need) => `GRANT ${need} TO <user>`).join('; '),
  )
}

/** As GRANT takes them. */
function needs(question: TableQuestion, { database, table, ledger, changes, fed }: Found): readonly string[] {
  const { target: name, write, views, window, create } = question
  const all = `${ident(name.database)}.*`
  const own = tableSql(name)
  const next = tableSql({ database: name.database, table: `${name.table}${NEXT_TABLE}` })
  const noted = tableSql({ database: name.database, table: LEDGER_TABLE })
  const makes = table === undefined || ledger === undefined || write === 'replace'
  const silent = fed.filter((one) => one.window === 0)
  return [
    ...(database ? [] : [`CREATE DATABASE ON ${all}`]),
    ...(makes ? [`CREATE TABLE ON ${all}`] : []),
    ...(create && views.length > 0 ? [`CREATE VIEW ON ${all}`] : []),
    ...[`INSERT ON ${own}`, `SELECT ON ${own}`, `INSERT ON ${noted}`, `SELECT ON ${noted}`],
    ...(changes.length > 0 ? [`ALTER COLUMN ON ${own}`] : []),
    ...(create && window > 0 ? silent.map((one) => `ALTER SETTINGS ON ${tableSql(one)}`) : []),
    ...(write === 'replace' ? [`DROP TABLE ON ${own}`, `INSERT ON ${next}`, `DROP TABLE ON ${next}`] : []),
  ]
}

function durability(at: Findings, table: FoundTable): Finding {
  if (table.synced) return at.ok('durability', 'what is acknowledged is on the disk')
  return at.warning(
    'durability',
    'fsync_after_insert is off: batches that were acknowledged may be gone after a power failure of the server',
    `ALTER TABLE ${tableSql(table)} MODIFY SETTING ${DURABLE}`,
  )
}

function dedupWindow(at: Findings, { create, window }: TableQuestion, { fed }: Found): Finding {
  const silent = fed.filter((table) => table.window === 0).map(labelOf)
  if (silent.length > 0 && !create)
    return at.failed(
      'dedup_window',
      'STORE_MISMATCH',
      `${silent.join(', ')} remember no blocks`,
      `set the deduplication window there to ${window}, or say \`create: missing\``,
    )
  if (silent.length > 0) return at.ok('dedup_window', `would be set to ${window} blocks on ${silent.join(', ')}`)
  if (fed.length === 0) return at.ok('dedup_window', `would be ${window} blocks`)
  const [least] = [...fed].sort((a, b) => a.window - b.window)
  return at.ok('dedup_window', `${least?.window} blocks in ${fed.map(labelOf).join(', ')}`)
}
