import { afterEach, beforeEach, expect, it } from 'vitest'
import clickhouse from '../../../src/loaders/clickhouse.ts'
import { onClickHouse } from '../../harness/clickhouse.ts'
import { type DiagnosisOptions, diagnosed, statuses } from '../../harness/diagnosis.ts'
import { type FreshUrl, freshClickHouseDatabase } from '../../harness/servers/fresh.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

const COLUMNS = [
  { name: 'id', type: 'BIGINT', from: ['id'] },
  { name: 'name', type: 'VARCHAR', from: ['name'] },
]
const HEALTHY = {
  reachable: 'ok',
  version: 'ok',
  tls: 'ok',
  writable: 'ok',
  target: 'ok',
  permission: 'ok',
  dedup_window: 'ok',
  clock: 'ok',
  disk: 'ok',
}

await serverSuite('the diagnosis of ClickHouse', ['clickhouse'], ({ clickhouse: server }) => {
  let database: FreshUrl
  beforeEach(async () => {
    database = await freshClickHouseDatabase(server)
  })
  afterEach(() => database.remove())

  const query = (sql: string) => onClickHouse(database.url, sql)
  const asked = (options: Readonly<Record<string, unknown>> = {}, env: DiagnosisOptions = {}) =>
    diagnosed(clickhouse, { url: database.url, table: 'events', ...options }, { columns: COLUMNS, ...env })
  const found = async (check: string, ...options: Parameters<typeof asked>) =>
    (await asked(...options)).find((finding) => finding.check === check)

  it('finds a healthy server well, says what would be made, and makes nothing', async () => {
    const view = { name: 'v', to: 'sums', query: 'SELECT id FROM {table}' }
    const findings = await asked({ materialized_views: [view] })
    expect(statuses(findings)).toEqual(HEALTHY)
    expect(findings.find(({ check }) => check === 'target')?.found).toBe(
      `would be made: table ${database.name}.events, view v, table ${database.name}._adflow_batches`,
    )
    expect(await query('SELECT name FROM system.tables WHERE database = currentDatabase()')).toEqual([])
    expect(JSON.stringify(findings)).not.toContain(`:${new URL(server.url).password}@`)
  })

  it('finds a table that is there: what would be added, its windows and those behind its views, and that it does not sync', async () => {
    await query('CREATE TABLE events (id Int64) ENGINE = MergeTree ORDER BY id')
    await query(
      'CREATE TABLE sums (id Int64) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 7',
    )
    await query('CREATE MATERIALIZED VIEW v TO sums AS SELECT id FROM events')
    expect((await found('target'))?.found).toBe(
      `would be made: table ${database.name}._adflow_batches, ADD COLUMN \`name\` Nullable(String), ADD COLUMN \`_batch\` Nullable(Int64)`,
    )
    expect(await found('durability')).toMatchObject({
      status: 'warning',
      mend: expect.stringContaining('fsync_after_insert'),
    })
    expect(await found('dedup_window')).toMatchObject({
      status: 'ok',
      found: `would be set to 10000 blocks on ${database.name}.events`,
    })
    expect(await found('dedup_window', { create: 'never' })).toMatchObject({ status: 'failed', code: 'STORE_MISMATCH' })
    await query('ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 50')
    expect((await found('dedup_window'))?.found).toBe(`7 blocks in ${database.name}.events, ${database.name}.sums`)
    expect(await found('target', { evolve: false })).toMatchObject({ status: 'failed', code: 'STORE_MISMATCH' })
    expect(await found('target', { table: 'others', create: 'never' })).toMatchObject({
      status: 'failed',
      found: `the table ${database.name}.others does not exist`,
    })
  })

  it('names a wrong password, and a server that is not there', async () => {
    const wrong = new URL(database.url)
    wrong.password = 'wrong password'
    expect(statuses(await asked({ url: wrong.href }))).toEqual({ reachable: 'failed STORE_DENIED' })
    expect(statuses(await asked({ url: 'http://adflow@127.0.0.1:1/ads' }))).toEqual({
      reachable: 'failed STORE_UNAVAILABLE',
    })
  })

  it('says what a user may not do, and how to allow it', async () => {
    const reader = new URL(database.url)
    reader.username = 'reader'
    reader.password = 'reader'
    expect(await found('permission', { url: reader.href })).toMatchObject({
      status: 'failed',
      code: 'STORE_DENIED',
      found: expect.stringContaining(`INSERT ON ${database.name}.events`),
      mend: expect.stringContaining('GRANT CREATE TABLE ON'),
    })
  })

  it('finds a clock that is off, and a disk that is nearly full', async () => {
    expect(await found('clock', {}, { now: () => Date.now() + 3_600_000 })).toMatchObject({ status: 'warning' })
    await using own = await startPrivate('clickhouse', { diskSize: '90m' })
    expect(await found('disk', { url: own.endpoint.url })).toMatchObject({
      status: 'failed',
      code: 'STORE_UNAVAILABLE',
    })
  })

  it('gives up on a server that is held still', async () => {
    await using own = await startPrivate('clickhouse')
    own.stop()
    const before = performance.now()
    const findings = await asked({ url: own.endpoint.url }, { timeoutMs: 1000 })
    expect(performance.now() - before).toBeLessThan(5000)
    own.cont()
    expect(statuses(findings)).toMatchObject({ reachable: 'failed STORE_UNAVAILABLE' })
  })
})
