import { describe, expect, it } from 'vitest'
import { createTableSql, createViewSql, type TablePlan } from '../../../src/clients/clickhouse/ddl.ts'
import { clickHouseColumns, NARROW } from '../../../src/clients/clickhouse/types.ts'

const EVENTS = { database: 'ads', table: 'my `events`' }
const MAKING = { cluster: undefined, replicated: false, window: 100 }
const PLAN = { engine: 'MergeTree', projections: [] } as const

const columns = clickHouseColumns(
  [
    { name: 'id', type: 'BIGINT' },
    { name: 'a "b`c\\', type: 'VARCHAR' },
    { name: 'cost', type: 'DECIMAL(18,4)' },
    { name: 'clicks', type: 'UINTEGER' },
  ],
  { nested: 'json', notNull: ['id'], years: NARROW },
)

describe('the statement that makes a table', () => {
  it('quotes names, and makes columns Nullable unless told otherwise', () => {
    expect(createTableSql(EVENTS, columns, PLAN, MAKING)).toBe(
      'CREATE TABLE IF NOT EXISTS `ads`.`my \\`events\\`` (`id` Int64, `a "b\\`c\\\\` Nullable(String), `cost` Nullable(Decimal(18, 4)), `clicks` Nullable(UInt32)) ENGINE = MergeTree() ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 100, allow_nullable_key = 1, fsync_after_insert = 1, fsync_part_directory = 1',
    )
  })

  it('goes to a cluster, as a Replicated engine with the window of such', () => {
    const sql = createTableSql(EVENTS, columns, PLAN, { ...MAKING, cluster: 'main', replicated: true })
    expect(sql).toContain(' ON CLUSTER `main` (')
    expect(sql).toContain('ENGINE = ReplicatedMergeTree() ')
    expect(sql).toContain('SETTINGS replicated_deduplication_window = 100')
    const views = createViewSql(
      EVENTS,
      { name: 'v', to: 'sums', query: 'SELECT id FROM {table}', engine: 'SummingMergeTree', order_by: ['id'] },
      { ...MAKING, cluster: 'main', replicated: true },
    )
    for (const statement of views) expect(statement).toContain(' ON CLUSTER `main` ')
    expect(views[0]).toContain('ENGINE = ReplicatedSummingMergeTree() ORDER BY (id\n)')
  })

  it('states what a SummingMergeTree sums: all numbers outside of the sorting key, or those that are named', () => {
    const plan: TablePlan = { ...PLAN, engine: 'SummingMergeTree', order_by: ['id'] }
    expect(createTableSql(EVENTS, columns, plan, MAKING)).toContain(
      'ENGINE = SummingMergeTree((`cost`, `clicks`)) ORDER BY `id` ',
    )
    expect(createTableSql(EVENTS, columns, { ...plan, sum: ['cost'] }, MAKING)).toContain('SummingMergeTree((`cost`))')
  })

  it('ends what the job states in SQL before it goes on', () => {
    const plan = { ...PLAN, partition_by: 'id -- by id', ttl: 'x -- soon', order_by: ['id', 'cost % 2 -- half'] }
    expect(createTableSql(EVENTS, columns, plan, MAKING)).toContain(
      'PARTITION BY (id -- by id\n) ORDER BY (`id`, (cost % 2 -- half\n)) TTL x -- soon\n SETTINGS',
    )
  })
})
