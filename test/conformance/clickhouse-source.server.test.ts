import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@clickhouse/client'
import clickhouse from '../../src/extractors/clickhouse.ts'
import type { ClickHouseEndpoint } from '../harness/servers/clickhouse.ts'
import { freshClickHouseDatabase } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type ExtractorFixture, extractorConformance } from './suites/extractor.ts'
import { SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

/** Two partitions, which are lanes. */
async function partitions(endpoint: ClickHouseEndpoint): Promise<ExtractorFixture> {
  const database = await freshClickHouseDatabase(endpoint)
  const client = createClient({ url: database.url })
  await client.command({
    query: 'CREATE TABLE odd (id UInt64, name String) ENGINE = MergeTree PARTITION BY id % 2 ORDER BY id',
  })
  await client.command({ query: "INSERT INTO odd SELECT number, concat('name ', toString(number)) FROM numbers(70)" })
  await client.close()
  const baseDir = await mkdtemp(join(tmpdir(), 'adflow-clickhouse-'))
  const rows = (odd: number) =>
    Array.from({ length: 35 }, (_, n) => `{"id":"${2 * n + odd}","name":"name ${2 * n + odd}"}`)
  const lanes = { [`${database.name}.odd#0`]: rows(0), [`${database.name}.odd#1`]: rows(1) }
  const options = {
    url: database.url,
    cursor: ['id'],
    query_rows: 30,
    parallel: { by: 'partition' },
    retry: { attempts: 1 },
  }
  return {
    options: { ...options, table: 'odd' },
    baseDir,
    lanes,
    sources: Object.fromEntries(Object.entries(lanes).map(([lane, all]) => [lane, Buffer.from(`${all.join('\n')}\n`)])),
    chunkBytes: { min: 200, max: 4000 },
    broken: { ...options, table: 'nothing' },
    close: async () => {
      await database.remove()
      await rm(baseDir, { recursive: true, force: true })
    },
  }
}

await serverSuite('the source ClickHouse', ['clickhouse'], ({ clickhouse: endpoint }) => {
  extractorConformance('clickhouse', clickhouse, () => partitions(endpoint))
  sourceFaults('clickhouse', async () => {
    const server = await startPrivate('clickhouse')
    const { url, readerUrl } = server.endpoint
    const client = createClient({ url })
    await client.command({
      query:
        'CREATE TABLE default.rows (id UInt64, micros Decimal(38, 18), name String) ENGINE = MergeTree ORDER BY id',
    })
    await client.exec({
      query: `INSERT INTO default.rows FORMAT JSONEachRow\n${SOURCE_ROWS.join('\n')}`,
      clickhouse_settings: { wait_end_of_query: 1, async_insert: 0 },
    })
    await client.close()
    return {
      extract: {
        type: 'clickhouse',
        url: `${readerUrl}/default`,
        table: 'rows',
        cursor: ['id'],
        query_rows: 1500,
        retry: { attempts: 3, initial: '20ms', max: '50ms' },
      },
      kill9: () => server.kill9(),
      restart: () => server.restart(),
      end: () => server.end(),
    }
  })
})
