import { createClient } from '@clickhouse/client'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

await serverSuite('the source ClickHouse', ['clickhouse'], () => {
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
