import { ClickHouseLogLevel, createClient } from '@clickhouse/client'
import { expect, it } from 'vitest'
import { freshClickHouseDatabase } from './fresh.ts'
import { serverSuite } from './suite.ts'

await serverSuite('ClickHouse of the harness', ['clickhouse'], ({ clickhouse }) => {
  it('is current: it refuses a token twice, into a materialized view too', async () => {
    await using database = await freshClickHouseDatabase(clickhouse)
    const client = createClient({ url: database.url })
    try {
      const window = 'SETTINGS non_replicated_deduplication_window = 100'
      for (const query of [
        `CREATE TABLE t (n Int64) ENGINE MergeTree ORDER BY n ${window}`,
        `CREATE TABLE sums (n Int64) ENGINE MergeTree ORDER BY n ${window}`,
        'CREATE MATERIALIZED VIEW v TO sums AS SELECT sum(n) AS n FROM t',
      ])
        await client.command({ query })
      for (let attempt = 0; attempt < 2; attempt += 1)
        await client.insert({
          table: 't',
          values: [{ n: 1 }, { n: 2 }],
          format: 'JSONEachRow',
          clickhouse_settings: {
            async_insert: 0,
            insert_deduplication_token: 'a',
            deduplicate_blocks_in_dependent_materialized_views: 1,
          },
        })
      const answer = await client.query({
        query: 'SELECT (SELECT count() FROM t) AS rows, (SELECT sum(n) FROM sums) AS sum',
        format: 'JSONEachRow',
      })
      expect(await answer.json()).toEqual([{ rows: 2, sum: 3 }])
    } finally {
      await client.close()
    }
  })

  it('lets its reader read and not write', async () => {
    await using database = await freshClickHouseDatabase(clickhouse)
    const owner = createClient({ url: database.url })
    const quiet = { level: ClickHouseLogLevel.OFF }
    const reader = createClient({ url: clickhouse.readerUrl, database: database.name, log: quiet })
    try {
      await owner.command({ query: 'CREATE TABLE t (n Int64) ENGINE MergeTree ORDER BY n' })
      const answer = await reader.query({ query: 'SELECT count() AS n FROM t', format: 'JSONEachRow' })
      expect(await answer.json()).toEqual([{ n: 0 }])
      await expect(reader.command({ query: 'INSERT INTO t VALUES (1)' })).rejects.toThrow('Not enough privileges')
    } finally {
      await Promise.all([owner.close(), reader.close()])
    }
  })
})
