import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import elasticsearch from '../../src/extractors/elasticsearch.ts'
import { bulk, call } from '../harness/opensearch.ts'
import { freshIndexes } from '../harness/servers/fresh.ts'
import type { OpenSearchEndpoint } from '../harness/servers/opensearch.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type ExtractorFixture, extractorConformance } from './suites/extractor.ts'
import { SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

/** Two indexes of a pattern, which are lanes. */
async function indexes(endpoint: OpenSearchEndpoint): Promise<ExtractorFixture> {
  const { url } = endpoint
  const fresh = await freshIndexes(endpoint)
  const baseDir = await mkdtemp(join(tmpdir(), 'adflow-elasticsearch-'))
  const lanes: Record<string, string[]> = {}
  for (const [name, count] of Object.entries({ [`${fresh.name}-a`]: 35, [`${fresh.name}-b`]: 25 })) {
    const documents = Array.from({ length: count }, (_, n) => `{"n":${n},"name":"name ${n}"}`)
    await call(url, 'PUT', name, { settings: { number_of_shards: 1, number_of_replicas: 0 } })
    await bulk(url, name, documents)
    lanes[name] = documents
  }
  const options = { url, incremental: { field: 'n' }, lanes: 'index', metadata: [], size: 7, retry: { attempts: 1 } }
  return {
    options: { ...options, index: `${fresh.name}-*` },
    baseDir,
    lanes,
    sources: Object.fromEntries(Object.entries(lanes).map(([lane, all]) => [lane, Buffer.from(`${all.join('\n')}\n`)])),
    chunkBytes: { min: 200, max: 4000 },
    broken: { ...options, index: `${fresh.name}-nothing` },
    close: async () => {
      await fresh.remove()
      await rm(baseDir, { recursive: true, force: true })
    },
  }
}

await serverSuite('the source OpenSearch', ['opensearch'], ({ opensearch: endpoint }) => {
  extractorConformance('elasticsearch', elasticsearch, () => indexes(endpoint))
  const start = async () => {
    const server = await startPrivate('opensearch')
    const { url } = server.endpoint
    await call(url, 'PUT', 'rows', {
      settings: { number_of_shards: 2, number_of_replicas: 0 },
      mappings: { properties: { id: { type: 'long' }, micros: { type: 'double' }, name: { type: 'keyword' } } },
    })
    await bulk(url, 'rows', SOURCE_ROWS)
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
