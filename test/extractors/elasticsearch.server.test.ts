import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import elasticsearch from '../../src/extractors/elasticsearch.ts'
import { BreakingProxy } from '../harness/breaking-proxy.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { bulk, call } from '../harness/opensearch.ts'
import { freshIndexes } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'
import { type StagedRunOptions, stagedRun } from '../harness/staged-run.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const DOCUMENTS = LONG ? 200_000 : 4000

await serverSuite('the source OpenSearch', ['opensearch'], ({ opensearch: { url } }) => {
  let prefix: string
  const folder = () => mkdtempSync(join(tmpdir(), 'adflow-elasticsearch-'))
  const named = (index: string) => `${prefix}-${index}`
  const read = (options: object, where = folder(), run: Partial<StagedRunOptions> = {}) =>
    stagedRun(
      elasticsearch,
      { url, retry: { attempts: 3, initial: '5ms', max: '10ms' }, ...options },
      { root: where, stage: join(where, 'stage'), parallel: 4, ...run },
    )
  const ns = (records: readonly string[]) => records.map((line) => Number(/"n":(\d+)/.exec(line)?.[1]))
  const upTo = (count: number, from = 0) => Array.from({ length: count }, (_, n) => from + n)
  const sorted = (numbers: readonly number[]) => [...numbers].sort((a, b) => a - b)

  async function make(index: string, { shards = 2 } = {}): Promise<void> {
    await call(url, 'PUT', named(index), {
      settings: { number_of_shards: shards, number_of_replicas: 0 },
      mappings: {
        properties: {
          at: { type: 'date' },
          fine: { type: 'date_nanos' },
          n: { type: 'long' },
          tag: { type: 'keyword' },
        },
      },
    })
  }

  const put = (index: string, sources: readonly string[]) => bulk(url, named(index), sources)

  /** `ties` documents of each second. */
  const documents = (count: number, ties = 1, from = 0) =>
    upTo(count, from).map(
      (n) =>
        `{"n":${n},"at":${1_700_000_000_000 + Math.floor(n / ties) * 1000},"cost":${n}.123456789012345678,"tag":"ü ${n % 7}"}`,
    )

  beforeAll(async () => {
    const fresh = await freshIndexes({ url })
    prefix = fresh.name
    return () => fresh.remove()
  })

  it('gives each document as it was sent, with where it came from', async () => {
    await make('exact', { shards: 1 })
    const source =
      `{ "n":9007199254740993123456 , "d":0.123456789012345678901234, "e":1E-7,\\n "s":"ü😀\\u0000\\"\\\\", "x":null, "l":[1.10,{"k":-0.0}] }`.replace(
        '\\n',
        '\n',
      )
    await call(url, 'PUT', named('loose'), { mappings: { dynamic: false } })
    const sent = await fetch(`${url}/${named('loose')}/_doc/a%20b?refresh=true`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: source,
    })
    expect(sent.ok).toBe(true)
    const { records } = await read({
      index: named('loose'),
      again: 'all',
      metadata: ['_id', '_index', '_version', '_routing'],
    })
    expect(records).toEqual([
      `{"_id":"a b","_index":"${named('loose')}","_version":1,"_routing":null,${source.slice(1).replace('\n', ' ')}`,
    ])
    const parts = await read({ index: named('loose'), again: 'all', metadata: [], source: { includes: ['s', 'd'] } })
    expect(parts.records).toEqual([
      expect.stringMatching(/^\{"s":.*"d":0\.12345678901234568\}$|^\{"d":0\.12345678901234568,"s":/),
    ])
  })

  it('loads a pattern by slices and deep ties, whole, and then what is new', async () => {
    await Promise.all(['events-a', 'events-b'].map((index) => make(index)))
    const rows = documents(DOCUMENTS, 700)
    await put('events-a', rows.slice(0, DOCUMENTS / 2))
    await put('events-b', rows.slice(DOCUMENTS / 2))
    const { path, remove } = temporaryFolder('elasticsearch')
    const job = new SmallJob(
      path,
      `version: 1
name: rows
extract:
  input: { type: elasticsearch, url: "${url}", index: "${named('events-*')}", incremental: { field: at }, slices: 3, size: ${LONG ? 5000 : 300} }
contract:
  columns: { _id: { type: varchar, required: true }, _index: varchar, n: bigint, cost: "decimal(38,18)", tag: varchar }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
resources: { chunk: ${LONG ? 4 : 0.1}MB }
`,
    )
    const truth = (count: number) => {
      const cost = upTo(count)
        .reduce((sum, n) => sum + BigInt(n) * 10n ** 18n + 123456789012345678n, 0n)
        .toString()
      return { n: count, ids: count, ns: count, cost: `${cost.slice(0, -18)}.${cost.slice(-18)}` }
    }
    const held =
      'SELECT count(*)::INTEGER AS n, count(DISTINCT _id)::INTEGER AS ids, count(DISTINCT rows.n)::INTEGER AS ns, sum(cost)::VARCHAR AS cost FROM w.rows AS rows'
    expect(await job.summary()).toMatchObject({ exit: 0, read: DOCUMENTS, gaps: [] })
    expect(await job.warehouse(held)).toEqual([truth(DOCUMENTS)])
    const more = 700 - (DOCUMENTS % 700)
    await put('events-b', documents(700, 700, DOCUMENTS + more))
    expect(await job.summary()).toMatchObject({ exit: 0, read: 700 })
    remove()
  })

  it('goes on behind the last whole group when the point in time ends in the middle', async () => {
    await make('views')
    await put('views', documents(6000, 50))
    await using proxy = await BreakingProxy.before(url)
    let searches = 0
    let closed = 0
    proxy.interfere = ({ path, body }) => {
      if (path.startsWith('/_search?') && ++searches % 9 === 0) {
        const id = (JSON.parse(body) as { pit: { id: string } }).pit.id
        void call(url, 'DELETE', '_search/point_in_time', { pit_id: [id] }).catch(() => undefined)
        closed += 1
      }
      return false
    }
    const options = { url: proxy.url, index: named('views'), incremental: { field: 'at' }, size: 200 }
    const where = folder()
    const { records, gaps, positions } = await read(options, where, { chunkBytes: 100_000 })
    expect(gaps).toEqual([])
    expect(closed).toBeGreaterThan(1)
    expect(ns(records)).toHaveLength(6000)
    expect(sorted(ns(records))).toEqual(upTo(6000))
    expect((await read(options, where, { from: positions })).records).toEqual([])
  })

  it('goes on where it was left, by nanoseconds, keywords and the order of changes', async () => {
    await make('orders', { shards: 1 })
    const sources = upTo(900).map(
      (n) =>
        `{"n":${n},"at":"2026-01-01","fine":"2026-01-01T00:00:00.${String(100_000_000 + n)}Z","tag":"k${String(n).padStart(4, '0')}"}`,
    )
    await put('orders', sources)
    for (const field of ['fine', 'tag', '_seq_no', 'n']) {
      const options = { index: named('orders'), incremental: { field }, size: 100, again: 'newer' }
      const where = folder()
      const first = await read(options, where, { chunks: 1, chunkBytes: 1000 })
      expect(first.gaps).toEqual([])
      const rest = await read(options, where, { from: first.positions })
      expect(ns([...first.records, ...rest.records]), field).toEqual(upTo(900))
      expect(first.records.length).toBeLessThan(900)
    }
  })

  it('reads the lag again, leaves out what it has, and leaves the youngest to a later run', async () => {
    await make('late')
    const now = Date.now()
    const one = (n: number, seconds: number) => `{"n":${n},"at":${now - seconds * 1000}}`
    await put('late', [one(1, 9000), one(2, 5000)])
    const options = { index: named('late'), incremental: { field: 'at', lag: '30m', settle: '10m' } }
    const where = folder()
    const first = await read(options, where)
    expect(ns(first.records)).toEqual([1, 2])
    await put('late', [one(3, 6000), one(4, 8000), one(5, 1000), one(6, 1)])
    const second = await read(options, where, { from: first.positions })
    expect(ns(second.records)).toEqual([3, 5])
    expect((await read(options, where, { from: second.positions })).records).toEqual([])
  })

  it('reads each index of a data stream or pattern as a lane, new ones from their beginning', async () => {
    await make('day-1')
    await put('day-1', documents(20))
    const options = { index: named('day-*'), lanes: 'index', incremental: { field: 'at' } }
    const where = folder()
    const first = await read(options, where)
    await make('day-2')
    await put('day-2', documents(20, 1, 5))
    const second = await read(options, where, { from: first.positions })
    expect([ns(first.records), ns(second.records)]).toEqual([upTo(20), upTo(20, 5)])
  })

  it('waits where the cluster is busy, and takes no answer that is not whole', async () => {
    await make('busy')
    await put('busy', documents(3000))
    await using proxy = await BreakingProxy.before(url)
    const options = { url: proxy.url, index: named('busy'), incremental: { field: 'at' }, size: 500 }
    let searches = 0
    proxy.interfere = ({ path }, response) => {
      if (!path.startsWith('/_search?')) return false
      searches += 1
      if (searches % 3 === 0) return 10_000
      if (searches % 3 !== 1) return false
      response
        .writeHead(429)
        .end('{"error":{"type":"es_rejected_execution_exception","reason":"queue full"},"status":429}')
      return true
    }
    const whole = await read({ ...options, retry: { attempts: 5, initial: '1ms', max: '5ms' } })
    expect(whole.gaps).toEqual([])
    expect(ns(whole.records)).toEqual(upTo(3000))

    const hits = (total: number, shards: object) =>
      JSON.stringify({ timed_out: false, _shards: shards, hits: { total: { value: total, relation: 'eq' }, hits: [] } })
    const all = { total: 2, failed: 0 }
    const refusals: readonly (readonly [number, string, string, RegExp])[] = [
      [401, '{"error":"Unauthorized"}', 'SOURCE_DENIED', /status 401/],
      [200, '<html>a proxy</html>', 'SOURCE_UNREADABLE', /HTML/],
      [502, '<html>a proxy</html>', 'SOURCE_UNREADABLE', /HTML/],
      [200, '{"hits":{"hits":[{"_id":"1","_sou', 'SOURCE_DAMAGED', /no whole JSON/],
      [
        200,
        hits(0, { total: 2, failed: 1, failures: [{ reason: { type: 'x', reason: 'broken' } }] }),
        'SOURCE_UNREADABLE',
        /1 of 2 shards failed: x, broken/,
      ],
      [200, hits(3000, all).replace('"timed_out":false', '"timed_out":true'), 'SOURCE_UNREADABLE', /timed out/],
      [200, hits(3000, all), 'SOURCE_DAMAGED', /gave 500 documents of the 3000/],
    ]
    for (const [status, text, code, message] of refusals) {
      searches = 0
      proxy.interfere = ({ path }, response) => {
        if (!path.startsWith('/_search?') || searches++ === 0) return false
        response.writeHead(status).end(text)
        return true
      }
      const where = folder()
      const refused = await read(options, where, { chunkBytes: 20_000 })
      expect(refused.gaps).toMatchObject([{ code, message: expect.stringMatching(message) }])
      proxy.interfere = () => false
      const rest = await read(options, where, { from: refused.positions })
      expect(ns([...refused.records, ...rest.records])).toEqual(upTo(3000))
    }
  })

  it('says which index was deleted while it was read, and goes on with the others later', async () => {
    await Promise.all(['gone-a', 'gone-b'].map((index) => make(index, { shards: 1 })))
    await put('gone-a', documents(2000))
    await put('gone-b', documents(2000, 1, 1000))
    await using proxy = await BreakingProxy.before(url)
    let searches = 0
    let deleted: Promise<string> | undefined
    const options = { url: proxy.url, index: named('gone-*'), incremental: { field: 'at' }, size: 500 }
    proxy.interfere = ({ path }, response) => {
      if (!path.startsWith('/_search?') || ++searches < 3) return false
      deleted ??= call(url, 'DELETE', named('gone-a'))
      if (searches > 3) return false
      // Asked for again when the index is gone.
      void deleted.then(() => response.writeHead(503).end('{"error":"busy","status":503}'))
      return true
    }
    const where = folder()
    const first = await read(options, where, { chunkBytes: 4000 })
    await deleted
    expect(first.gaps).toMatchObject([
      { code: 'SOURCE_MISSING', message: expect.stringMatching(/gone-a.* was deleted/) },
    ])
    const rest = await read(options, where, { from: first.positions })
    expect(rest.gaps).toEqual([])
    const fromB = [...first.records, ...rest.records].filter((line) => line.includes('gone-b'))
    expect(ns(fromB)).toEqual(upTo(2000, 1000))
  })

  it('speaks the API of Elasticsearch with a server that is one', async () => {
    const asked: string[] = []
    const server = createServer((incoming, response) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('end', () => {
        const path = incoming.url ?? ''
        asked.push(`${incoming.method} ${path.split('?')[0]}`)
        const body = Buffer.concat(parts).toString()
        const [answer] = ELASTICSEARCH.flatMap(([pattern, say]) =>
          pattern.test(`${incoming.method} ${path}`) ? [say(body)] : [],
        )
        response.writeHead(answer === undefined ? 404 : 200).end(answer ?? '{}')
      })
    })
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    try {
      const { port } = server.address() as AddressInfo
      const { records, gaps } = await read({
        url: `http://127.0.0.1:${port}`,
        index: 'l',
        incremental: { field: 'at' },
        size: 2,
      })
      expect(gaps).toEqual([])
      expect(ns(records)).toEqual([0, 1, 2])
      expect(asked).toContain('POST /l/_pit')
      expect(asked.at(-2)).toBe('DELETE /_pit')
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  describe('says clearly what is wrong', () => {
    beforeAll(async () => {
      await make('plain')
      await put('plain', documents(10))
      await put('plain', ['{"n":99}'])
    })
    const by = (field: string) => ({ index: named('plain'), incremental: { field } })
    it.each<[string, () => object, string, RegExp]>([
      ['no such index', () => ({ ...by('at'), index: named('nope') }), 'SOURCE_MISSING', /nope/],
      ['a pattern of none', () => ({ ...by('at'), index: named('nope-*') }), 'SOURCE_MISSING', /nope/],
      ['no such field', () => by('nope'), 'SOURCE_MISSING', /no field nope/],
      ['a field without order', () => ({ ...by('_id') }), 'SOURCE_UNSUPPORTED', /read on by _id/],
      ['a bad query', () => ({ ...by('n'), query: { nope: {} } }), 'SOURCE_UNSUPPORTED', /unknown query|nope/],
      ['a _seq_no of two shards', () => by('_seq_no'), 'SOURCE_UNSUPPORTED', /2 shards/],
      ['no server', () => ({ ...by('at'), url: 'http://127.0.0.1:1' }), 'SOURCE_UNREADABLE', /ECONNREFUSED/],
    ])('%s', async (_, options, code, message) => {
      const { gaps, records } = await read(options())
      expect(records).toEqual([])
      expect(gaps).toMatchObject([{ code, message: expect.stringMatching(message) }])
    })

    it('documents without the field, when all others are read', async () => {
      const { gaps, records } = await read(by('at'))
      expect(ns(records)).toEqual(upTo(10))
      expect(gaps).toMatchObject([
        { code: 'SOURCE_UNSUPPORTED', message: expect.stringMatching(/1 documents.* have no at/) },
      ])
      const skipping = { ...by('at'), incremental: { field: 'at', missing: 'skip' } }
      expect((await read(skipping)).gaps).toEqual([])
    })

    it('before a run, too', async () => {
      const checks = async (options: object) => {
        const env = { baseDir: '.', answerMs: 5000, signal: new AbortController().signal, now: Date.now }
        const chosen = elasticsearch.options.parse({ url, ...options })
        const { findings } = elasticsearch.diagnose?.(chosen, env as never) ?? {}
        const found: string[] = []
        for await (const { check, status } of findings ?? []) found.push(`${check} ${status}`)
        return found
      }
      const all = ['reachable', 'version', 'tls', 'target', 'permission'].map((check) => `${check} ok`)
      expect(await checks(by('at'))).toEqual(all)
      expect(await checks({ ...by('at'), index: named('nope') })).toContain('target failed')
    })
  })
})

/** As Elasticsearch answers, by its documentation: an id of the view that changes, `_shard_doc` in each sort. */
const ELASTICSEARCH: readonly (readonly [RegExp, (body: string) => string])[] = [
  [/^GET \/$/, () => '{"version":{"number":"9.1.0"}}'],
  [/^GET \/l\/_settings/, () => '{"l":{"settings":{"index":{"uuid":"u","number_of_shards":"1"}}}}'],
  [/^GET \/l\/_field_caps/, () => '{"fields":{"at":{"date":{"type":"date"}}}}'],
  [/^POST \/l\/_pit\?keep_alive=/, () => '{"id":"first"}'],
  [/^POST \/l\/_count/, () => '{"count":0,"_shards":{"failed":0}}'],
  [/^DELETE \/_pit/, (body) => (body === '{"id":"second"}' ? '{"succeeded":true,"num_freed":1}' : '')],
  [
    /^POST \/_search/,
    (body) => {
      const { pit, search_after: [, last = -1] = [] } = JSON.parse(body) as {
        pit: { id: string }
        search_after?: number[]
      }
      if (pit.id !== (last === -1 ? 'first' : 'second')) return '{}'
      const hits = [0, 1, 2].filter((n) => n > last).slice(0, 2)
      const all = hits.map((n) => ({ _index: 'l', _id: `${n}`, _seq_no: n, _source: { n, at: 5 }, sort: [5, n] }))
      const total = last === -1 ? { total: { value: 3, relation: 'eq' } } : {}
      return JSON.stringify({
        pit_id: 'second',
        timed_out: false,
        _shards: { total: 1, failed: 0 },
        hits: { ...total, hits: all },
      })
    },
  ],
]
