import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Elastic } from '../../src/clients/elastic/http.ts'
import type { Loader } from '../../src/core/contracts.ts'
import elasticsearch from '../../src/loaders/elasticsearch.ts'
import { cutAnswer, failing } from '../harness/cut-answer.ts'
import { httpProxy, type ProxiedAnswer } from '../harness/http-proxy.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { call, documents, pages } from '../harness/opensearch.ts'
import { makeCertificate } from '../harness/servers/core/certificates.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'
import { type Fresh, freshIndexes } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'

type Options = Readonly<Record<string, unknown>>

const ROWS =
  "SELECT i::BIGINT AS id, 'name ' || i AS name, TIMESTAMP '2026-03-30' + to_days(i::INTEGER) AS at FROM range(4) t(i)"

await serverSuite('the loader of Elasticsearch', ['opensearch', 'toxiproxy'], ({ opensearch: server, toxiproxy }) => {
  const { url } = server
  let folder: string
  let bench: LoaderBench
  let indexes: Fresh
  let index: string
  let loaders: Loader[]

  beforeEach(async () => {
    folder = newFolder()
    indexes = await freshIndexes(server)
    index = `${indexes.name}-events`
    loaders = []
    bench = await LoaderBench.open({ definition: elasticsearch as never, folder, options: [] })
  })
  afterEach(async () => {
    for (const loader of loaders) await loader.close()
    bench.close()
    removeFolder(folder)
    await indexes.remove()
  })

  const loaderOf = (options: Options = {}) => {
    const loader = bench.create({ url, index, batches: `${indexes.name}-batches`, ...options })
    loaders.push(loader)
    return loader
  }
  const opened = (options: Options = {}, rows = ROWS) => bench.open(loaderOf(options), rows)
  const json = async (method: string, path: string, body?: unknown) =>
    JSON.parse(await call(url, method, path, body)) as Record<string, never>
  const count = async (name = index, at = url) => {
    await call(at, 'POST', `${name}/_refresh`)
    return (JSON.parse(await call(at, 'GET', `${name}/_count`)) as { count: number }).count
  }
  const found = async (query: unknown) =>
    ((await json('POST', `${index}/_search`, { query })) as unknown as { hits: { hits: { _id: string }[] } }).hits.hits
      .length
  /** The loader's requests fail from the n-th bulk request on, as those of a process that is killed. */
  const killedAtBulk = async (nth: number, work: () => Promise<unknown>) => {
    const { send } = Elastic.prototype
    let seen = 0
    Elastic.prototype.send = function (this: Elastic, request, signal) {
      if (request.path.includes('_bulk')) seen += 1
      if (seen >= nth) return Promise.reject(new Error('killed'))
      return Reflect.apply(send, this, [request, signal])
    }
    try {
      return await failing(work())
    } finally {
      Elastic.prototype.send = send
    }
  }

  describe('what it makes', () => {
    it('an index whose fields are those of the columns, or what the job says of them', async () => {
      const rows =
        "SELECT 1::BIGINT AS id, 'She runs' AS title, {'os': 'x', 'tags': ['a']} AS device, [{'sku': 'a', 'n': 1}, {'sku': 'b', 'n': 2}] AS items, TIMESTAMP '2026-01-02 03:04:05.123456' AS seen, 12.50::DECIMAL(9,2) AS price, 0.1::DECIMAL(38,18) AS exact"
      const fields = {
        title: { type: 'text', analyzer: 'english' },
        items: { type: 'nested' },
        seen: { type: 'date_nanos' },
        'device.os': { type: 'text' },
      }
      const loader = await opened({ fields, settings: { number_of_shards: 2, 'index.refresh_interval': '5s' } }, rows)
      await bench.write(loader, { rows })
      const made = (await json('GET', `${index}?flat_settings=true`))[index] as unknown as {
        mappings: { dynamic: string; properties: Record<string, Record<string, unknown>> }
        settings: Record<string, string>
      }
      expect(made.settings).toMatchObject({
        'index.number_of_shards': '2',
        'index.refresh_interval': '5s',
        'index.translog.durability': 'request',
      })
      expect(made.mappings.dynamic).toBe('strict')
      expect(made.mappings.properties).toMatchObject({
        id: { type: 'long' },
        title: { type: 'text', analyzer: 'english' },
        device: { properties: { os: { type: 'text' }, tags: { type: 'keyword' } } },
        items: { type: 'nested', properties: { sku: { type: 'keyword' }, n: { type: 'long' } } },
        seen: { type: 'date_nanos' },
        price: { type: 'scaled_float', scaling_factor: 100 },
        exact: { type: 'keyword' },
        _batch: { type: 'long' },
      })
      await call(url, 'POST', `${index}/_refresh`)
      expect(await found({ match: { title: 'running' } })).toBe(1)
      expect(
        await found({ range: { seen: { gt: '2026-01-02T03:04:05.123455Z', lt: '2026-01-02T03:04:05.123457Z' } } }),
      ).toBe(1)
      const both = (n: number) => ({ bool: { must: [{ term: { 'items.sku': 'a' } }, { term: { 'items.n': n } }] } })
      expect(await found({ nested: { path: 'items', query: both(1) } })).toBe(1)
      expect(await found({ nested: { path: 'items', query: both(2) } })).toBe(0)
    })

    it('documents that hold every type as it was, and finds what the index can hold', async () => {
      const rows = `SELECT 18446744073709551615::UBIGINT AS u, 340282366920938463463374607431768211455::UHUGEINT AS uh, '\\xDE\\xAD\\xBE\\xEF'::BLOB AS b,
        '{"n": 0.12345678901234567890123,\n "m": 12345678901234567890123456789, "t": "x\\ny"}'::JSON AS j, {'j': '{"n": 0.12345678901234567890123}'::JSON} AS s,
        MAP {'a.b': 1.5::DECIMAL(38,18), '': NULL} AS m, TIMESTAMP_NS '2026-01-02 03:04:05.123456789' AS ns, DATE '0044-03-15 (BC)' AS bc,
        'infinity'::TIMESTAMP AS inf, TIMESTAMP '1969-12-31 23:59:59.999999' AS before, 'nan'::DOUBLE AS nan, '00000000-0000-0000-0000-00000000000a'::UUID AS id,
        INTERVAL '1 month 2 days' AS i, TIME '03:04:05.000006' AS t, 'b'::ENUM('a','b') AS e, 0.1::FLOAT AS f, 99999999999.99::DECIMAL(13,2) AS money, NULL::VARCHAR AS none, '' AS empty, [[1], NULL, []] AS l, repeat('x', 40000) AS long`
      await bench.write(await opened({ batch_column: false }, rows), { rows })
      let text = ''
      for await (const page of pages(url, index)) text += page
      const source = /"_source":(\{.*\})\}\]\}\}$/
        .exec(text.replace(/"sort":\[\d+\]/, '').replace(',}', '}'))?.[1]
        ?.replace(/x{40000}/, 'xxx')
      expect(source).toBe(
        '{"u":18446744073709551615,"uh":"340282366920938463463374607431768211455","b":"3q2+7w==","s":{"j":"{\\"n\\": 0.12345678901234567890123}"},"m":{"a.b":"1.500000000000000000","":null},"ns":"2026-01-02T03:04:05.123456789Z","bc":"0044-03-15 (BC)","inf":"infinity","before":"1969-12-31T23:59:59.999999Z","nan":"nan","id":"00000000-0000-0000-0000-00000000000a","i":"1 month 2 days","t":"03:04:05.000006","e":"b","f":0.10000000149011612,"money":"99999999999.99","none":null,"empty":"","l":[[1],null,[]],"long":"xxx","j":{"n": 0.12345678901234567890123,  "m": 12345678901234567890123456789, "t": "x\\ny"}}',
      )
      expect(await found({ term: { u: '18446744073709551615' } })).toBe(1)
      expect(await found({ range: { money: { gt: 99999999999.98, lt: 100000000000 } } })).toBe(1)
      expect(await found({ range: { before: { lt: '1970-01-01', gte: '1969-12-31T23:59:59.999Z' } } })).toBe(1)
      expect(await found({ terms: { _ignored: ['nan'] } })).toBe(1)
    })

    it('new fields for new columns, and refuses what is another kind of thing', async () => {
      await bench.write(await opened({}, 'SELECT 1::INTEGER AS id'), { rows: 'SELECT 1::INTEGER AS id' })
      const wider = "SELECT 9007199254740993::BIGINT AS id, {'a': 1} AS device"
      await bench.write(await opened({}, wider), { rows: wider, at: 1 })
      const widest = "SELECT 1::BIGINT AS id, {'a': 1, 'b': [TRUE]} AS device"
      await bench.write(await opened({}, widest), { rows: widest, at: 2 })
      expect(await count()).toBe(3)
      expect(await found({ term: { id: '9007199254740993' } })).toBe(1)
      expect(await failing(opened({}, 'SELECT {a: 1} AS id'))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining(`${index}.id is long, the batch has object`),
      })
      expect(await failing(opened({ evolve: false }, "SELECT 1 AS id, 'x' AS note"))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('note'),
      })
    })

    it('a data stream with its template, whose later indexes have the new fields too', async () => {
      const options = { data_stream: 'at', settings: { number_of_replicas: 0 } }
      await bench.write(await opened(options), { rows: ROWS })
      const more = `SELECT *, 1 AS more FROM (${ROWS})`
      const loader = await opened(options, more)
      await call(url, 'POST', `${index}/_rollover`)
      await bench.write(loader, { rows: more, at: 1 })
      expect(await count()).toBe(8)
      expect(await json('GET', `_data_stream/${index}`)).toMatchObject({ data_streams: [{ generation: 2 }] })
      expect(Object.values(await documents(url, index))[0]).toMatchObject({ '@timestamp': '2026-03-30T00:00:00Z' })
      const timeless = `SELECT * REPLACE (NULL::TIMESTAMP AS "at") FROM (${more}) LIMIT 1`
      expect(await failing(bench.write(loader, { rows: timeless, at: 2 }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('@timestamp'),
      })
      expect(await failing(opened())).toMatchObject({
        code: 'STORE_MISMATCH',
        hint: expect.stringContaining('data_stream'),
      })
    })
  })

  it('is found by a search as soon as a batch is written, where the job asks for that', async () => {
    const quiet = { settings: { 'index.refresh_interval': '-1' } }
    for (const [refresh, expected] of [
      ['batch', 4],
      ['none', 0],
    ] as const) {
      const own = `${index}-${refresh}`
      await bench.write(await opened({ ...quiet, index: own, refresh }), { rows: ROWS })
      expect(await json('GET', `${own}/_count`)).toMatchObject({ count: expected })
    }
  })

  it('waits for the copies of a shard that the job asks for, and then says that they are not there', async () => {
    const settings = { number_of_replicas: 1 }
    const loader = await opened({ settings, wait_for_active_shards: 'all', request_timeout: '2s' })
    expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
      code: 'STORE_UNAVAILABLE',
      retryable: true,
      message: expect.stringContaining('unavailable_shards_exception'),
    })
    expect(await count()).toBe(0)
    await call(url, 'PUT', `${index}/_settings`, { 'index.number_of_replicas': 0 })
    expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
  })

  describe('merge', () => {
    const merging = (key: readonly string[], rows: string, options: Options = {}) =>
      opened({ write: 'merge', key, ...options }, rows)

    it('keeps one document for each key, the last one, under the key itself where it can be an id', async () => {
      const rows = `SELECT * FROM (VALUES ('a', 1), ('b', 2), ('a', 3), ('', 4), (NULL, 5), (NULL, 6), ('adflow:x', 7), (repeat('k', 600), 8)) t(name, n)`
      const loader = await merging(['name'], rows)
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 8, repeated: false })
      const held = await documents(url, index)
      expect(held['a']).toMatchObject({ n: 3 })
      expect(held['b']).toMatchObject({ n: 2 })
      expect(Object.values(held).map(({ n }) => n)).toEqual(expect.arrayContaining([2, 3, 4, 6, 7, 8]))
      expect(Object.keys(held)).toHaveLength(6)
      const two = 'SELECT 1 AS a, NULL::DATE AS b, 1 AS n'
      await bench.write(await merging(['a', 'b'], two, { index: `${index}-two` }), { rows: two })
      const newer = two.replace('1 AS n', '2 AS n')
      await bench.write(await merging(['a', 'b'], two, { index: `${index}-two` }), { rows: newer, at: 1 })
      expect(Object.values(await documents(url, `${index}-two`)).map(({ n }) => n)).toEqual([2])
    })

    it('never lets a request that was held up overwrite what a later batch wrote', async () => {
      const row = (n: number) => `SELECT 'k' AS name, ${n} AS n`
      const loader = await merging(['name'], row(1))
      let late: Parameters<Elastic['send']>[0] | undefined
      const { send } = Elastic.prototype
      Elastic.prototype.send = function (this: Elastic, request, signal) {
        if (!request.path.includes('_bulk')) return Reflect.apply(send, this, [request, signal])
        late = request
        return Promise.reject(new Error('held up on its way'))
      }
      expect(await failing(bench.write(loader, { rows: row(1) }))).toMatchObject({ code: 'STORE_UNAVAILABLE' })
      Elastic.prototype.send = send
      expect(await bench.write(loader, { rows: row(1) })).toMatchObject({ repeated: false })
      await bench.write(loader, { rows: row(2), at: 1 })
      const answer = await fetch(`${url}/${late?.path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body: String(late?.body),
      })
      expect(await answer.text()).toContain('409')
      expect(await documents(url, index)).toMatchObject({ k: { n: 2 } })
    })

    it('is refused by an alias of several indexes, in which a document could be twice', async () => {
      for (const name of ['1', '2'])
        await call(url, 'PUT', `${index}-${name}`, { aliases: { [index]: { is_write_index: name === '2' } } })
      expect(await failing(merging(['id'], ROWS))).toMatchObject({ code: 'STORE_MISMATCH' })
    })
  })

  describe('replace', () => {
    it('shows the old documents until the run is complete, then the new ones, behind an alias from then on', async () => {
      await bench.write(await opened(), { rows: 'SELECT 99::BIGINT AS id, NULL AS name, NULL::TIMESTAMP AS at' })
      for (const [run, rows] of [ROWS, `${ROWS} LIMIT 3`].entries()) {
        const before = await count()
        const loader = await opened({ write: 'replace' })
        await bench.write(loader, { rows, at: 10 + run })
        expect(await count()).toBe(before)
        await loader.finish?.({ engine: bench.session, complete: false })
        expect(await count()).toBe(before)
        expect(await failing(opened())).toMatchObject({ code: 'STORE_MISMATCH' })
        await loader.finish?.({ engine: bench.session, complete: true })
        expect(await count()).toBe(4 - run)
      }
      expect(Object.keys(await json('GET', `${indexes.name}*`))).toHaveLength(1)
      const idle = await opened({ write: 'replace' })
      await idle.finish?.({ engine: bench.session, complete: true })
      expect(await count()).toBe(3)
    })

    it('takes only the alias from an index that is not its own', async () => {
      await call(url, 'PUT', `${index}-mine`, { aliases: { [index]: {} } })
      const loader = await opened({ write: 'replace' })
      await bench.write(loader, { rows: ROWS })
      await loader.finish?.({ engine: bench.session, complete: true })
      expect(await json('GET', `${index}-mine`)).toMatchObject({ [`${index}-mine`]: { aliases: {} } })
      expect(await count()).toBe(4)
    })
  })

  describe('an attempt that was not seen to its end', () => {
    const many = (n: number, name = "'name ' || i") =>
      `SELECT i::BIGINT AS id, ${name} AS name, TIMESTAMP '2026-03-30' AS at FROM range(${n}) t(i)`
    const small = { requests: { bytes: '4kB', parallel: 1 } }

    it('is completed under the same ids', async () => {
      const loader = await opened(small)
      expect(await killedAtBulk(4, () => bench.write(loader, { rows: many(300) }))).toMatchObject({ retryable: true })
      expect(await count()).toBeGreaterThan(0)
      expect(await loader.probe?.((await bench.batch({ rows: ROWS })).token, { engine: bench.session })).toBeUndefined()
      expect(await bench.write(loader, { rows: many(300) })).toMatchObject({ rows: 300, repeated: false })
      expect(await count()).toBe(300)
    })

    it('of other rows leaves nothing: neither more of them nor others under the same ids', async () => {
      const loader = await opened(small)
      await killedAtBulk(9, () => bench.write(loader, { rows: many(300) }))
      expect(await count()).toBeGreaterThan(50)
      await killedAtBulk(2, () => bench.write(loader, { rows: many(20, "'other ' || i") }))
      expect(await bench.write(loader, { rows: many(20, "'other ' || i") })).toMatchObject({ rows: 20 })
      const names = Object.values(await documents(url, index)).map(({ name }) => name)
      expect(names.sort()).toEqual(Array.from({ length: 20 }, (_, i) => `other ${i}`).sort())
    })

    it('of a data stream that got another index meanwhile doubles nothing', async () => {
      const loader = await opened({ ...small, data_stream: 'at' })
      await killedAtBulk(4, () => bench.write(loader, { rows: many(300) }))
      await call(url, 'POST', `${index}/_rollover`)
      expect(await failing(bench.write(loader, { rows: many(300) }))).toMatchObject({ retryable: true })
      expect(await bench.write(loader, { rows: many(300) })).toMatchObject({ rows: 300, repeated: false })
      expect(await count()).toBe(300)
    })

    it('is told from a batch that two processes write at the same time', async () => {
      const [one, two] = [await opened(small), await opened(small)]
      const settled = await Promise.all([one, two].map((loader) => failing(bench.write(loader, { rows: many(300) }))))
      for (const error of settled) if (error !== undefined) expect(error).toMatchObject({ retryable: true })
      expect(await bench.write(one, { rows: many(300) })).toMatchObject({ rows: 300 })
      expect(await count()).toBe(300)
    })
  })

  describe('a connection that is cut', () => {
    it('anywhere in an answer, the last included: the next attempt completes the batch, or finds it there, once', async () => {
      await opened()
      await using proxy = await proxyFor(toxiproxy, url)
      const loader = await opened({ url: proxy.url, connections: 1 })
      const answers: string[] = []
      for (let bytes = 20; bytes < 1600; bytes += 120) {
        const spec = { at: bytes, rows: ROWS, lane: 'cut' }
        answers.push(await cutAnswer({ bench, loader, proxy }, bytes, spec, 4))
      }
      expect([...new Set(answers)].sort()).toEqual(['landed', 'lost', 'whole'])
      expect(await count()).toBe(4 * answers.length)
    }, 60_000)

    it.for(['append', 'merge'] as const)(
      'just after the last documents were sent: %s takes the batch once',
      async (write) => {
        let bulks = 0
        await using proxy = await httpProxy(url, {
          async answer({ path }, pass) {
            const answered = await pass()
            if (!path.includes('_bulk')) return answered
            bulks += 1
            if (bulks === 1) throw new Error('cut')
            return answered
          },
        })
        const key = write === 'merge' ? { key: ['id'] } : {}
        const loader = await opened({ url: proxy.url, write, ...key })
        expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({ code: 'STORE_UNAVAILABLE' })
        expect(await count()).toBe(4)
        expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
        expect(await count()).toBe(4)
      },
    )

    it('by kill -9 of the server in the middle of a batch: it is completed, and nothing is doubled', async () => {
      await using own = await startPrivate('opensearch')
      const at = own.endpoint.url
      const loader = await opened({ url: at, requests: { bytes: '500kB', parallel: 2 } })
      const N = 40_000
      const rows = `SELECT i::BIGINT AS id, repeat('x', 200) AS name, TIMESTAMP '2026-01-01' AS at FROM range(${N}) t(i)`
      const first = failing(bench.write(loader, { rows }))
      while ((await count(index, at)) < 3000);
      await own.kill9()
      expect(await first).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
      await own.restart()
      const left = await count(index, at)
      // Fewer than were seen before, it may be: a search finds what is not acknowledged yet.
      expect(left).toBeGreaterThan(0)
      expect(left).toBeLessThan(N)
      const { token } = await bench.batch({ rows })
      expect(await loader.probe?.(token, { engine: bench.session })).toBeUndefined()
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: N, repeated: false })
      expect(await count(index, at)).toBe(N)
      const { aggregations } = JSON.parse(
        await call(at, 'POST', `${index}/_search`, {
          size: 0,
          aggs: { all: { stats: { field: 'id' } } },
        }),
      ) as { aggregations: unknown }
      expect(aggregations).toMatchObject({ all: { count: N, min: 0, max: N - 1, sum: ((N - 1) * N) / 2 } })
    }, 120_000)
  })

  describe('answers of single documents', () => {
    it('that say busy or away: those documents alone are sent again, and each is there once', async () => {
      const seed = Date.now() % 100_000
      let random = seed
      const chance = () => {
        random = (random * 1_103_515_245 + 12_345) % 2_147_483_648
        return random / 2_147_483_648
      }
      const sent = new Map<string, number>()
      const expected = new Map<string, number>()
      await using proxy = await httpProxy(url, {
        async answer({ path, body }, pass) {
          if (!path.includes('_bulk')) return pass()
          const pairs = String(body).match(/[^\n]*\n[^\n]*\n/g) ?? []
          const ids = pairs.map((pair) => /"_id":"([^"]*)"/.exec(pair)?.[1] ?? '')
          for (const id of ids) sent.set(id, (sent.get(id) ?? 0) + 1)
          // 429: not done. 503: done, and not acknowledged.
          const fates = pairs.map(() => (chance() < 0.15 ? 429 : chance() < 0.15 ? 503 : undefined))
          for (const [place, id] of ids.entries())
            if (fates[place] !== undefined) expected.set(id, (expected.get(id) ?? 1) + 1)
          const through = pairs.filter((_, place) => fates[place] !== 429)
          const items = through.length === 0 ? [] : itemsOf(await pass(Buffer.from(through.join(''))))
          const all = fates.map((fate) => {
            const own = fate === 429 ? undefined : items.shift()
            const error = { type: 'es_rejected_execution_exception', reason: 'rejected' }
            return fate === undefined ? own : { create: { status: fate, error } }
          })
          return { status: 200, body: JSON.stringify({ errors: true, items: all }) }
        },
      })
      const loader = await opened({ url: proxy.url, requests: { bytes: '8kB', parallel: 2 } })
      const rows = `SELECT i::BIGINT AS id, 'name ' || i AS name, TIMESTAMP '2026-03-30' AS at FROM range(200) t(i)`
      expect(await bench.write(loader, { rows }), `seed ${seed}`).toMatchObject({ rows: 200, repeated: false })
      expect(await count()).toBe(200)
      expect(sent.size).toBe(200)
      for (const [id, times] of sent) expect(times, `${id}, seed ${seed}`).toBe(expected.get(id) ?? 1)
    }, 60_000)

    it('that stay busy end the attempt, which can be repeated', async () => {
      let busy = true
      await using proxy = await httpProxy(url, {
        answer: async ({ path }, pass) =>
          busy && path.includes('_bulk')
            ? { status: 429, body: '{"error":{"type":"es_rejected_execution_exception","reason":"full"},"status":429}' }
            : pass(),
      })
      const loader = await opened({ url: proxy.url })
      const soon = AbortSignal.timeout(1500)
      expect(await failing(loader.write(await bench.batch({ rows: ROWS }), { signal: soon }))).toBeDefined()
      busy = false
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
      expect(await count()).toBe(4)
    })

    it('that refuse a value: the batch fails with document and reason, and can be repeated without it', async () => {
      const rows = (worst: number) =>
        `SELECT i::BIGINT AS id, CASE WHEN i = 2 THEN ${worst} ELSE i END::BIGINT AS n FROM range(4) t(i)`
      const loader = await opened({ fields: { n: { type: 'integer' } } }, rows(2))
      const error = await failing(bench.write(loader, { rows: rows(3_000_000_000) }))
      expect(error).toMatchObject({
        code: 'STORE_MISMATCH',
        retryable: false,
        message: expect.stringMatching(
          /the document ".*-2" was refused \(status 400, mapper_parsing_exception, .*\[n\]/,
        ),
        hint: expect.stringContaining('rule'),
      })
      expect(String(error)).not.toContain('3000000000')
      expect(await count()).toBe(3)
      expect(await bench.write(loader, { rows: rows(7) })).toMatchObject({ rows: 4, repeated: false })
      expect(
        Object.values(await documents(url, index))
          .map(({ n }) => n)
          .sort(),
      ).toEqual([0, 1, 3, 7])
    })

    it('of a document that is larger than a request', async () => {
      const rows = "SELECT i::BIGINT AS id, repeat('y', 20000) AS name, NULL::TIMESTAMP AS at FROM range(5) t(i)"
      const loader = await opened({ requests: { bytes: '4kB' } })
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 5 })
      expect(await count()).toBe(5)
    })
  })

  describe('says what is wrong, once and clearly', () => {
    // The test server has no security: a proxy before it answers as that of a secured one does.
    const secured = (permitted: (path: string) => boolean = () => true) => ({
      answer: async (
        { path, headers }: { path: string; headers: Readonly<Record<string, unknown>> },
        pass: () => Promise<ProxiedAnswer>,
      ): Promise<ProxiedAnswer> => {
        if (headers['authorization'] !== `Basic ${Buffer.from('adflow:right').toString('base64')}`)
          return { status: 401, body: 'Unauthorized' }
        if (permitted(path)) return pass()
        const reason = 'no permissions for [indices:data/write/bulk] and User [name=adflow]'
        return { status: 403, body: JSON.stringify({ error: { type: 'security_exception', reason }, status: 403 }) }
      },
    })

    it('of a wrong password', async () => {
      await using proxy = await httpProxy(url, secured())
      const own = { url: proxy.url, user: 'adflow' }
      expect(await failing(opened({ ...own, password: 'a wrong one' }))).toMatchObject({
        code: 'STORE_DENIED',
        exit: 77,
        hint: expect.stringContaining('password'),
      })
      await bench.write(await opened({ ...own, password: 'right' }), { rows: ROWS })
    })

    it('of a missing privilege', async () => {
      await using proxy = await httpProxy(
        url,
        secured((path) => !path.includes('_bulk')),
      )
      const loader = await opened({ url: proxy.url.replace('//', '//adflow:right@') })
      expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
        code: 'STORE_DENIED',
        message: expect.stringContaining('no permissions for [indices:data/write/bulk]'),
      })
      expect(await count()).toBe(0)
    })

    it('of a certificate that has expired, and of one that nobody vouches for', async () => {
      const files = makeFolder('certificates')
      const expired = await makeCertificate(files, { notAfter: new Date(Date.now() - 1000) })
      await using old = await httpProxy(url, { certificate: expired })
      expect(await failing(opened({ url: old.url, tls: { ca: expired.authorityFile } }))).toMatchObject({
        code: 'STORE_DENIED',
        message: expect.stringContaining('expired'),
      })
      const good = await makeCertificate(files)
      await using fresh = await httpProxy(url, { certificate: good })
      expect(await failing(opened({ url: fresh.url }))).toMatchObject({
        code: 'STORE_DENIED',
        hint: expect.stringContaining('tls.ca'),
      })
      const loader = await opened({ url: fresh.url, tls: { ca: good.authorityFile } })
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4 })
      files.remove()
    })

    it('of a missing index under create: never, and makes none', async () => {
      expect(await failing(opened({ create: 'never' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining(`there is no index ${index}`),
      })
      expect(await failing(call(url, 'GET', index))).toBeDefined()
    })

    it.for([
      ['the full disk of a node (flood stage)', 'read_only_allow_delete', 'disk'],
      ['an index that is read-only', 'read_only', 'read-only'],
      ['an index that takes no writes', 'write', 'read-only'],
    ] as const)('of %s, and takes the batch when the block is gone', async ([, block, hint]) => {
      const loader = await opened()
      const set = (on: boolean | null) => call(url, 'PUT', `${index}/_settings`, { [`index.blocks.${block}`]: on })
      await set(true)
      expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryable: true,
        hint: expect.stringContaining(hint),
      })
      expect(await count()).toBe(0)
      await set(null)
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
      expect(await count()).toBe(4)
    })

    it.for([
      [{ settings: { 'index.translog.durability': 'async' } }, 'before they are on disk'],
      [{ mappings: { _source: { enabled: false } } }, 'does not keep documents as they are written'],
    ] as const)('of an index that would lose something: %j', async ([body, message]) => {
      await call(url, 'PUT', index, body)
      expect(await failing(opened())).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining(message),
      })
    })

    it('of a server that is not there', async () => {
      expect(await failing(opened({ url: 'http://127.0.0.1:1' }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryable: true,
      })
    })
  })

  it('names its data set without the password, and shows it in no error', async () => {
    const loader = loaderOf({ url: 'http://someone:geheim1@127.0.0.1:1/search' })
    expect(loader.dataset()).toEqual({ namespace: 'elasticsearch://127.0.0.1:1', name: index })
    expect(String(await failing(bench.open(loader, ROWS)))).not.toContain('geheim1')
  })
})

function itemsOf({ body }: ProxiedAnswer): unknown[] {
  return (JSON.parse(body) as { items: unknown[] }).items
}
