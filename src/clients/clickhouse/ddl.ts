/** The statements that make tables and views. What is there already is left alone. */
import { ident, literal } from './sql-text.ts'
import type { Engine, Storage, ViewOption } from './table-options.ts'
import type { ClickHouseColumn } from './types.ts'

export interface TableName {
  readonly database: string
  readonly table: string
}

/** Where and how tables are made. */
export interface Making {
  readonly cluster: string | undefined
  readonly replicated: boolean
  readonly window: number
}

export interface TablePlan extends Storage {
  readonly engine: Engine
  readonly projections: readonly { readonly name: string; readonly query: string }[]
  readonly comment?: string
}

export function tableSql({ database, table }: TableName): string {
  return `${ident(database)}.${ident(table)}`
}

export function labelOf({ database, table }: TableName): string {
  return `${database}.${table}`
}

export function onCluster(cluster: string | undefined): string {
  return cluster === undefined ? '' : ` ON CLUSTER ${ident(cluster)}`
}

/** What is acknowledged must be on the disk, and not only in the memory of the system: by itself ClickHouse does not sync. */
export const DURABLE = 'fsync_after_insert = 1, fsync_part_directory = 1'

export function createTableSql(
  name: TableName,
  columns: readonly ClickHouseColumn[],
  plan: TablePlan,
  making: Making,
): string {
  const known = columns.map((column) => column.name)
  const definitions = columns.map((column) => `${ident(column.name)} ${column.type}`)
  const projections = plan.projections.map((own) => `PROJECTION ${ident(own.name)} (${own.query}\n)`)
  return [
    `CREATE TABLE IF NOT EXISTS ${tableSql(name)}${onCluster(making.cluster)} (${[...definitions, ...projections].join(', ')})`,
    storageSql(plan, making, known, plan.engine === 'SummingMergeTree' ? summed(columns, plan) : undefined),
    ...(plan.comment === undefined ? [] : [`COMMENT ${literal(plan.comment)}`]),
  ].join(' ')
}

/** The table behind a view, and the view. */
export function createViewSql(
  source: TableName,
  view: ViewOption,
  making: Making,
): readonly [table: string, view: string] {
  const { database } = source
  const query = view.query.replaceAll('{table}', tableSql(source))
  const to = tableSql({ database, table: view.to })
  const where = onCluster(making.cluster)
  return [
    `CREATE TABLE IF NOT EXISTS ${to}${where} ${storageSql({ ...view, projections: [] }, making, [], view.sum)} EMPTY AS ${query}`,
    `CREATE MATERIALIZED VIEW IF NOT EXISTS ${tableSql({ database, table: view.name })}${where} TO ${to} AS ${query}`,
  ]
}

function engineSql(engine: Engine, replicated: boolean): string {
  return replicated ? `Replicated${engine}` : engine
}

function storageSql(
  plan: TablePlan,
  { replicated, window }: Making,
  known: readonly string[],
  sum: readonly string[] | undefined,
): string {
  const { engine, order_by = [], partition_by, projections, ttl, version } = plan
  const parameters =
    version !== undefined ? [ident(version)] : sum === undefined ? [] : [`(${sum.map(ident).join(', ')})`]
  const expression = (text: string) => (known.includes(text) ? ident(text) : `(${text}\n)`)
  const order = order_by.map(expression).join(', ')
  return [
    `ENGINE = ${engineSql(engine, replicated)}(${parameters.join(', ')})`,
    ...(partition_by === undefined ? [] : [`PARTITION BY ${expression(partition_by)}`]),
    `ORDER BY ${order_by.length === 1 ? order : order === '' ? 'tuple()' : `(${order})`}`,
    ...(ttl === undefined ? [] : [`TTL ${ttl}\n`]),
    `SETTINGS ${replicated ? 'replicated' : 'non_replicated'}_deduplication_window = ${window}, allow_nullable_key = 1, ${DURABLE}`,
    ...(projections.length > 0 && engine !== 'MergeTree' ? [", deduplicate_merge_projection_mode = 'rebuild'"] : []),
  ].join(' ')
}

const NUMBER = /^(?:Nullable\()?(?:U?Int\d+|Float\d+|Decimal\(\d+, \d+\))\)?$/

/** Stated in full: what is added to the table later is no sum by accident. */
function summed(columns: readonly ClickHouseColumn[], { order_by = [], sum }: TablePlan): readonly string[] {
  return sum ?? columns.flatMap(({ name, type }) => (NUMBER.test(type) && !order_by.includes(name) ? [name] : []))
}
