import { basename, join } from 'node:path'
import { afterAll } from 'vitest'
import { Elastic } from '../../src/clients/elastic/http.ts'
import { ident, literal } from '../../src/engine/sql-text.ts'
import elasticsearch from '../../src/loaders/elasticsearch.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { call, pages, writeDocuments } from '../harness/opensearch.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'
import { type FaultyStore, type Held, storeFaults } from './suites/store-faults.ts'

type Options = Readonly<Record<string, unknown>>

let copies = 0

function index(url: string, options: Options): LoaderFixture<unknown> {
  return {
    definition: elasticsearch as LoaderFixture<unknown>['definition'],
    type: 'elasticsearch',
    bounded: 'batches',
    options: { url, index: 'events', requests: { bytes: '64kB' }, ...options },
    other: { url, index: 'other', ...options },
    stepsOf: requestsAsSteps,
    place: (folder, { index: name }) => ({
      index: `${basename(folder)}-${name}`,
      batches: `${basename(folder)}-batches`,
    }),
    rows: ({ index: name }, folder, columns) => read(url, String(name), folder, columns),
  }
}

/** A dead process sends nothing more. */
function requestsAsSteps(dying: DyingProcess): () => void {
  const { send } = Elastic.prototype
  Elastic.prototype.send = function (this: Elastic, ...args) {
    dying.step()
    return Reflect.apply(send, this, args)
  }
  return () => Object.assign(Elastic.prototype, { send })
}

async function read(url: string, name: string, folder: string, columns: Columns): Promise<string> {
  copies += 1
  const file = join(folder, 'spill', `documents-${copies}.ndjson`)
  await writeDocuments(url, name, file)
  const fields = Object.entries(columns).map(([column, type]) => `${ident(column)} ${type}`)
  const items = Object.keys(columns).map((column) => `hit._source.${ident(column)} AS ${ident(column)}`)
  const hits = `STRUCT(hits STRUCT(_source STRUCT(${fields.join(', ')}))[])`
  return `SELECT ${items.join(', ')} FROM (SELECT unnest(hits.hits) AS hit FROM read_json(${literal(file)}, format = 'newline_delimited', maximum_object_size = 8000000, columns = {hits: ${literal(hits)}}))`
}

async function faulty(): Promise<FaultyStore> {
  const server = await startPrivate('opensearch')
  const { url } = server.endpoint
  const held = async (name: string): Promise<Held> => {
    const rows: (readonly [id: string, micros: bigint])[] = []
    for await (const page of pages(url, name))
      for (const [, id = '', micros = ''] of page.matchAll(/"_source":{"id":(\d+),"n":\d+,"micros":(\d+)/g))
        rows.push([id, BigInt(micros)])
    const sum = rows.reduce((total, [, micros]) => total + micros, 0n)
    return { rows: rows.length, ids: new Set(rows.map(([id]) => id)).size, micros: String(sum) }
  }
  return {
    loads: (place) => ({
      appended: { type: 'elasticsearch', url, index: place },
      merged: { type: 'elasticsearch', url, index: `${place}_merged`, write: 'merge', key: ['id'] },
    }),
    held: async (place) => ({ appended: await held(place), merged: await held(`${place}_merged`) }),
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

await serverSuite('the loader of Elasticsearch and OpenSearch', ['opensearch'], ({ opensearch: { url } }) => {
  afterAll(() => call(url, 'DELETE', 'adflow-loader-*?expand_wildcards=all'))
  loaderConformance('elasticsearch append', index(url, {}))
  loaderConformance('elasticsearch merge', index(url, { write: 'merge', key: ['id'] }))
  storeFaults('elasticsearch', faulty)
})
