/** What a server says of its tables. */
import type { ClickHouse } from './connect.ts'
import { labelOf, type TableName, tableSql } from './ddl.ts'

export interface FoundTable extends TableName {
  /** `MergeTree`, `ReplicatedSummingMergeTree`, `View` … */
  readonly engine: string
  /** Blocks that it remembers to refuse their repetition. */
  readonly window: number
  /** For how long, where that is limited. */
  readonly windowSeconds: number | undefined
  readonly partitionKey: string
  readonly comment: string
  readonly hasTtl: boolean
  /** What is acknowledged is on the disk. */
  readonly synced: boolean
  /** As the server writes it. */
  readonly createQuery: string
  /** Materialized views that are fed by it. */
  readonly views: readonly TableName[]
}

export interface FoundColumn {
  readonly name: string
  readonly type: string
  readonly inPartitionKey: boolean
  readonly defaultExpression: string
}

export function isReplicated({ engine }: Pick<FoundTable, 'engine'>): boolean {
  return /^(?:Replicated|Shared)/.test(engine)
}

export function isMergeTree({ engine }: Pick<FoundTable, 'engine'>): boolean {
  return engine.endsWith('MergeTree')
}

export async function findTable(clickhouse: ClickHouse, name: TableName): Promise<FoundTable | undefined> {
  const [found] = await findTables(clickhouse, [name])
  return found
}

/** In the order of the names. */
export async function findTables<Names extends readonly TableName[]>(
  clickhouse: ClickHouse,
  names: readonly [...Names],
): Promise<{ [Place in keyof Names]: FoundTable | undefined }> {
  const rows = await clickhouse.rows(
    `look at ${names.map(labelOf).join(', ')}`,
    `SELECT database, name, engine, engine_full, partition_key, comment, create_table_query, arrayZip(dependencies_database, dependencies_table) AS views FROM system.tables WHERE database IN {databases:Array(String)} AND name IN {tables:Array(String)}`,
    { databases: names.map(({ database }) => database), tables: names.map(({ table }) => table) },
  )
  const found = names.map(({ database, table }) => {
    const row = rows.find((row) => row['database'] === database && row['name'] === table)
    return row === undefined ? undefined : foundTable(clickhouse, { database, table }, row)
  })
  return (await Promise.all(found)) as { [Place in keyof Names]: FoundTable | undefined }
}

async function foundTable(
  clickhouse: ClickHouse,
  { database, table }: TableName,
  row: Readonly<Record<string, unknown>>,
): Promise<FoundTable> {
  const engine = String(row['engine'])
  const full = String(row['engine_full'])
  const prefix = isReplicated({ engine }) ? 'replicated' : 'non_replicated'
  const setting = async (key: string) =>
    Number(new RegExp(`\\b${key} = '?(\\d+)`).exec(full)?.[1] ?? (await defaultOf(clickhouse, key)))
  return {
    database,
    table,
    engine,
    window: isMergeTree({ engine }) ? await setting(`${prefix}_deduplication_window`) : 0,
    windowSeconds: prefix === 'replicated' ? await setting('replicated_deduplication_window_seconds') : undefined,
    partitionKey: String(row['partition_key']),
    comment: String(row['comment']),
    hasTtl: / TTL /.test(full),
    synced: (await setting('fsync_after_insert')) === 1,
    createQuery: String(row['create_table_query']),
    views: (row['views'] as [string, string][]).map(([inDatabase, view]) => ({ database: inDatabase, table: view })),
  }
}

/** In the order of the table. */
export async function findColumns(clickhouse: ClickHouse, name: TableName): Promise<readonly FoundColumn[]> {
  const rows = await clickhouse.rows(
    `look at the columns of ${labelOf(name)}`,
    `SELECT name, type, is_in_partition_key AS partitions, default_expression AS given FROM system.columns WHERE database = {database:String} AND table = {table:String} ORDER BY position`,
    { ...name },
  )
  return rows.map((row) => ({
    name: String(row['name']),
    type: String(row['type']),
    inPartitionKey: Number(row['partitions']) === 1,
    defaultExpression: String(row['given']),
  }))
}

export async function hasDatabase(clickhouse: ClickHouse, database: string): Promise<boolean> {
  const rows = await clickhouse.rows(
    `look for the database ${database}`,
    'SELECT 1 FROM system.databases WHERE name = {database:String}',
    { database },
  )
  return rows.length > 0
}

export async function hasTable(clickhouse: ClickHouse, name: TableName): Promise<boolean> {
  const rows = await clickhouse.rows(
    `look for ${labelOf(name)}`,
    'SELECT 1 FROM system.tables WHERE database = {database:String} AND name = {table:String}',
    { ...name },
  )
  return rows.length > 0
}

/** Highest number of a block in each table. Each block that a table remembers has taken a number; of replicated tables each
 *  partition counts for itself. */
export async function highestBlocks(
  clickhouse: ClickHouse,
  tables: readonly FoundTable[],
): Promise<Readonly<Record<string, number>>> {
  const rows = await clickhouse.rows(
    `look at the blocks of ${tables.map(labelOf).join(', ')}`,
    `SELECT name, max(number) AS highest, sum(number) AS summed FROM (SELECT concat(database, '.', table) AS name, partition_id, max(max_block_number) AS number FROM system.parts WHERE database IN {databases:Array(String)} AND table IN {tables:Array(String)} GROUP BY 1, 2) GROUP BY name`,
    { databases: tables.map(({ database }) => database), tables: tables.map(({ table }) => table) },
  )
  const found = new Map(rows.map((row) => [String(row['name']), row]))
  return Object.fromEntries(
    tables.map((table) => {
      const row = found.get(labelOf(table))
      return [labelOf(table), Number(row?.[isReplicated(table) ? 'summed' : 'highest'] ?? 0)]
    }),
  )
}

/** Rows for which `condition` holds. */
export async function rowsOf(clickhouse: ClickHouse, name: TableName, condition: string): Promise<number> {
  const [row] = await clickhouse.rows(
    `count the rows of a batch in ${labelOf(name)}`,
    `SELECT count() AS n FROM ${tableSql(name)} WHERE ${condition}`,
  )
  return Number(row?.['n'])
}

async function defaultOf(clickhouse: ClickHouse, name: string): Promise<string> {
  const [row] = await clickhouse.rows(
    'look at the settings of tables',
    'SELECT value FROM system.merge_tree_settings WHERE name = {name:String}',
    { name },
  )
  return String(row?.['value'] ?? 0)
}
