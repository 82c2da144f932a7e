import { call } from '../harness/opensearch.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

await serverSuite('the source OpenSearch', ['opensearch'], () => {
  const start = async () => {
    const server = await startPrivate('opensearch')
    const { url } = server.endpoint
    await call(url, 'PUT', 'rows', {
      settings: { number_of_shards: 2, number_of_replicas: 0 },
      mappings: { properties: { id: { type: 'long' }, micros: { type: 'double' }, name: { type: 'keyword' } } },
    })
    for (let from = 0; from < SOURCE_ROWS.length; from += 5000) {
      const lines = SOURCE_ROWS.slice(from, from + 5000).map((row) => `{"create":{}}\n${row}\n`)
      const answer = await fetch(`${url}/rows/_bulk?refresh=true`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body: lines.join(''),
      })
      if (!answer.ok || ((await answer.json()) as { errors: boolean }).errors) throw new Error('the rows were refused')
    }
    await call(url, 'POST', 'rows/_flush')
    return {
      extract: {
        type: 'elasticsearch',
        url,
        index: 'rows',
        incremental: { field: 'id' },
        size: 500,
        slices: 2,
        retry: { attempts: 3, initial: '20ms', max: '50ms' },
      },
      kill9: () => server.kill9(),
      restart: () => server.restart(),
      end: () => server.end(),
    }
  }
  sourceFaults('elasticsearch', start, { startsSlowly: true })
})
