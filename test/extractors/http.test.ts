import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Positions } from '../../src/core/contracts.ts'
import type { Finding } from '../../src/core/diagnosis.ts'
import http from '../../src/extractors/http.ts'
import { HttpSource, record } from '../harness/http-source.ts'
import { type StagedRun, stagedRun } from '../harness/staged-run.ts'

const root = await mkdtemp(join(tmpdir(), 'adflow-http-'))
let server: HttpSource
let cases = 0

beforeEach(async () => {
  cases += 1
  server = await new HttpSource().start()
  server.lists['l'] = list(35)
})
afterEach(() => server.stop())
afterAll(() => rm(root, { recursive: true, force: true }))

function list(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, n) => record(from + n))
}

/** One run in the stage of this test; `from`: where the one before ended. */
function run(options: object, from: Positions = {}): Promise<StagedRun> {
  const defaults = {
    records: 'data.items',
    allow_private: true,
    retry: { attempts: 3, initial: '5ms', max: '10ms' },
  }
  return stagedRun(http, { ...defaults, ...options }, { root, stage: join(root, String(cases)), from })
}

const at = (paging: string, name = 'l') => `${server.origin}/${paging}/${name}`
const inPages = (paging: string, paginate: object, more: object = {}) => ({
  url: at(paging),
  paginate,
  again: 'added',
  ...more,
})

const PAGINGS: Record<string, object> = {
  cursor: { type: 'cursor', path: 'meta.next' },
  header: { type: 'cursor', param: 'from', header: 'X-Next' },
  offset: { type: 'offset', limit: 10 },
  page: { type: 'page' },
  link: { type: 'link' },
  next: { type: 'next', path: 'meta.next' },
}

describe('http pages', () => {
  it.each(Object.entries(PAGINGS))(
    'by %s come once, exactly as they stand, and what is added later comes once too',
    async (name, paginate) => {
      const first = await run(inPages(name, paginate))
      expect(first).toMatchObject({ records: list(35), gaps: [] })
      server.lists['l']?.push(...list(12, 35))
      const second = await run(inPages(name, paginate), first.positions)
      expect(second).toMatchObject({ records: list(12, 35), gaps: [] })
      const third = await run(inPages(name, paginate), { ...first.positions, ...second.positions })
      expect(third).toMatchObject({ records: [], gaps: [] })
    },
  )

  it.each(Object.entries(PAGINGS))(
    'by %s are asked for again where they broke off, and no others',
    async (name, paginate) => {
      let broken = 0
      server.interfere = (_, response) => {
        if (server.asked.length !== 2 && server.asked.length !== 4) return false
        broken += 1
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': '5000' })
        response.write('{"data": {"items": [{"id": 1}, {"id":')
        setTimeout(() => response.destroy(), 5)
        return true
      }
      expect(await run(inPages(name, paginate))).toMatchObject({ records: list(35), gaps: [] })
      expect(broken).toBe(2)
    },
  )

  it('by offset: none is missed and none comes twice when records go away or come before the page', async () => {
    const key = ['id']
    let moves = 0
    server.interfere = ({ query }) => {
      const all = server.lists['l'] ?? []
      if (query.get('offset') === '14' && moves === 0) all.splice(2, 2)
      if (query.get('offset') === '21' && moves === 1) all.unshift(record(900), record(901))
      if (query.get('offset') === '14' || query.get('offset') === '21') moves += 1
      return false
    }
    const { records, gaps } = await run(inPages('offset', { type: 'offset', limit: 10, overlap: 3 }, { key }))
    expect(gaps).toEqual([])
    const wanted = list(35)
    expect(records.filter((one) => wanted.includes(one))).toHaveLength(new Set(records).size)
    expect(wanted.filter((one) => !records.includes(one))).toEqual([])
    expect(moves).toBeGreaterThan(0)
  })

  it('by offset: a list that moved further than the overlap is a gap, not a loss', async () => {
    server.interfere = ({ query }) => {
      if (query.get('offset') === '16') server.lists['l']?.splice(0, 5)
      return false
    }
    const { gaps } = await run(inPages('offset', { type: 'offset', limit: 10, overlap: 2 }, { key: ['id'] }))
    expect(gaps).toMatchObject([{ code: 'SOURCE_CHANGED', message: expect.stringContaining('paginate.overlap') }])
  })

  it('by number with overlap: records that move forward meanwhile are found', async () => {
    let moved = false
    server.interfere = ({ query }) => {
      if (query.get('page') === '2' && !moved) {
        moved = true
        server.lists['l']?.splice(0, 3)
      }
      return false
    }
    const { records, gaps } = await run(inPages('page', { type: 'page', overlap: true }, { key: ['id'] }))
    expect(gaps).toEqual([])
    expect(new Set(records)).toEqual(new Set(list(35)))
    expect(records).toHaveLength(35)
  })

  it('leave out what a source gives twice in neighbouring pages, by its key', async () => {
    server.lists['l'] = [...list(10), ...list(2, 8), ...list(10, 10)]
    const { records } = await run(inPages('cursor', { type: 'cursor', path: 'meta.next' }, { key: ['id'] }))
    expect(records).toEqual(list(20))
  })

  it('that are not what they were cannot be read on from, and it is said', async () => {
    const options = inPages('cursor', { type: 'cursor', path: 'meta.next' })
    const { positions } = await run(options)
    server.lists['l']?.splice(32, 1)
    expect((await run(options, positions)).gaps).toMatchObject([
      { code: 'SOURCE_CHANGED', message: expect.stringContaining('again: added') },
    ])
  })

  it.each([
    [
      'the same cursor again and again',
      { type: 'cursor', path: 'meta.next' },
      '{"meta":{"next":"7"},"data":{"items":[{"id":1}]}}',
      {},
    ],
    ['the same page under every number', { type: 'page' }, '{"data":{"items":[{"id":1}]}}', {}],
    [
      'a next page that is the first',
      { type: 'next', path: 'meta.next' },
      '{"meta":{"next":"/next/l?from=7"},"data":{"items":[{"id":1}]}}',
      {},
    ],
    ['more than max_pages', { type: 'cursor', path: 'meta.next' }, undefined, { max_pages: 3 }],
  ])('without end are an error: %s', async (_, paginate, body, more) => {
    if (body !== undefined) server.interfere = (__, response) => response.end(body) !== undefined
    const { gaps } = await run(inPages((paginate as { type: string }).type, paginate, more))
    expect(gaps).toMatchObject([{ code: 'SOURCE_UNSUPPORTED', message: expect.stringContaining('have no end') }])
    expect(server.asked.length).toBeLessThan(6)
  })

  it('of a feed that gives its cursor back at its end are no endless ones', async () => {
    const all = server.lists['l'] ?? []
    server.interfere = ({ query }, response) => {
      const from = Number(query.get('cursor') ?? 0)
      const page = all.slice(from, from + 10)
      return response.end(`{"data":{"items":[${page.join()}]},"meta":{"next":${from + page.length}}}`) !== undefined
    }
    const options = inPages('cursor', { type: 'cursor', path: 'meta.next' })
    const first = await run(options)
    expect(first).toMatchObject({ records: list(35), gaps: [] })
    all.push(...list(3, 35))
    expect(await run(options, first.positions)).toMatchObject({ records: list(3, 35), gaps: [] })
  })

  it('elsewhere are not asked for with the credentials of the job', async () => {
    server.interfere = (_, response) =>
      response.end('{"meta":{"next":"http://other.example/"},"data":{"items":[{"id":1}]}}') !== undefined
    const { gaps } = await run(inPages('next', { type: 'next', path: 'meta.next' }))
    expect(gaps).toMatchObject([
      { code: 'SOURCE_UNSUPPORTED', message: expect.stringContaining('http://other.example') },
    ])
  })
})

describe('http, incrementally', () => {
  const incremental = { field: 'at', param: 'since' }

  it('asks for what is newer, from `start` on', async () => {
    const options = {
      url: at('whole'),
      incremental: { ...incremental, start: '2023-11-14T22:13:30.000Z' },
      key: ['id'],
    }
    const first = await run(options)
    expect(first.records).toEqual(list(25, 10))
    server.lists['l']?.push(...list(5, 35))
    const second = await run(options, first.positions)
    expect(second.records).toEqual(list(5, 35))
    expect(server.asked.map(({ query }) => query.get('since'))).toEqual([
      '2023-11-14T22:13:30.000Z',
      '2023-11-14T22:13:54.000Z',
    ])
  })

  it('finds what the source shows late, within the lag, and leaves out the rest by its key', async () => {
    const options = inPages(
      'cursor',
      { type: 'cursor', path: 'meta.next' },
      {
        again: undefined,
        incremental: { ...incremental, lag: '10s' },
        key: ['id'],
      },
    )
    const first = await run(options)
    expect(first.records).toEqual(list(35))
    const late = record(500, 1_700_000_000_000 + 30_500)
    server.lists['l']?.splice(31, 0, late)
    server.lists['l']?.push(...list(2, 35))
    const second = await run(options, first.positions)
    expect(second.records).toEqual([late, ...list(2, 35)])
    const third = await run(options, { ...first.positions, ...second.positions })
    expect(third.records).toEqual([])
  })

  it('goes on in the middle of a pass, and remembers what it has seen of it', async () => {
    const options = inPages(
      'cursor',
      { type: 'cursor', path: 'meta.next' },
      {
        again: undefined,
        incremental: { ...incremental, lag: '1h' },
        key: ['id'],
        retry: { attempts: 1 },
      },
    )
    server.interfere = ({ query }, response) =>
      query.get('cursor') === '20' ? response.writeHead(500).end() !== undefined : false
    const first = await run(options)
    expect(first.records).toEqual(list(20))
    server.interfere = () => false
    const second = await run(options, first.positions)
    expect(second.records).toEqual(list(15, 20))
    server.lists['l']?.push(...list(1, 35))
    const third = await run(options, second.positions)
    expect(third.records).toEqual(list(1, 35))
  })

  it('says so where more may come again than it can remember', async () => {
    server.lists['l'] = list(5000)
    const { gaps } = await run({ url: at('whole'), incremental: { ...incremental, lag: '1d' }, key: ['id'] })
    expect(gaps).toMatchObject([{ code: 'SOURCE_UNSUPPORTED', message: expect.stringContaining('dedupe') }])
  })

  it.each([
    [
      'a counter beyond 2^53',
      'number',
      ['9007199254740993', '9007199254740994', '9007199254740995'],
      '9007199254740995',
    ],
    ['seconds', 'unix', ['1700000000', '1700000007'], '1700000007'],
    [
      'microseconds',
      'time',
      ['"2026-01-01T00:00:00.000001Z"', '"2026-01-01T00:00:00.000002Z"'],
      '2026-01-01T00:00:00.000002Z',
    ],
    ['days', 'date', ['"2026-01-01T05:00:00Z"', '"2026-01-02T01:00:00Z"'], '2026-01-02'],
  ])('by %s: asked for exactly', async (_, as, values, since) => {
    server.interfere = (__, response) =>
      response.end(`[${values.map((value) => `{"v":${value}}`).join()}]`) !== undefined
    const options = { url: `${at('whole')}?after={since}`, records: '$', incremental: { field: 'v', as } }
    const { positions } = await run(options)
    await run(options, positions)
    expect(server.asked.map(({ query }) => query.get('after'))).toEqual(['', since])
  })
})

describe('one http answer', () => {
  it('that has not changed brings nothing: by its ETag, by its date, or by its records', async () => {
    for (const headers of [{ etag: '"v1"' }, { 'last-modified': 'Wed, 01 Jul 2026 10:00:00 GMT' }, {}]) {
      cases += 1
      server.asked.length = 0
      server.interfere = ({ headers: asked }, response) => {
        const known = asked['if-none-match'] ?? asked['if-modified-since']
        if (known === Object.values(headers)[0] && known !== undefined)
          return response.writeHead(304).end() !== undefined
        return response.writeHead(200, headers).end(`[${list(3).join()}]`) !== undefined
      }
      const first = await run({ url: at('whole'), records: '$' })
      const second = await run({ url: at('whole'), records: '$' }, first.positions)
      expect([first.records, second.records, second.gaps]).toEqual([list(3), [], []])
      expect(server.asked).toHaveLength(2)
    }
  })

  it.each([
    ['gzip', gzipSync],
    ['br', brotliCompressSync],
    ['zstd', zstdCompressSync],
  ])('is read in %s, and told that it may be', async (encoding, compress) => {
    server.interfere = ({ headers }, response) => {
      expect(headers['accept-encoding']).toContain(encoding)
      response.setHeader('content-encoding', encoding)
      return response.end(compress(`[${list(500).join()}]`)) !== undefined
    }
    expect((await run({ url: at('whole'), records: '$' })).records).toEqual(list(500))
  })

  it('is read where it is a compressed file', async () => {
    server.interfere = (_, response) => response.end(gzipSync(list(50).join('\n'))) !== undefined
    expect((await run({ url: at('whole'), format: 'ndjson' })).records).toEqual(list(50))
  })

  it('is read as NDJSON and as CSV by its type, header and quotes and all', async () => {
    server.interfere = ({ query }, response) => {
      const csv = query.get('as') === 'csv'
      response.setHeader('content-type', csv ? 'text/csv; charset=utf-8' : 'application/x-ndjson')
      return response.end(csv ? '\ufeffid,note\r\n1,"a, ""b""\nc"\r\n2,\r\n' : list(3).join('\n')) !== undefined
    }
    expect((await run({ url: at('whole') })).records).toEqual(list(3))
    cases += 1
    const csv = await run({ url: `${at('whole')}?as=csv` })
    expect(csv.records).toEqual(['1,"a, ""b""', 'c"', '2,'])
    expect(csv.format).toEqual({ type: 'csv', delimiter: ',', quote: '"', header: ['id', 'note'] })
  })

  it('by POST: what is filled in is escaped', async () => {
    server.interfere = (_, response) => response.end('[{"id":1}]') !== undefined
    await run({
      ...{ url: at('whole'), method: 'POST', records: '$', headers: { 'content-type': 'application/json' } },
      ...{ body: '{"after":"{since}"}', incremental: { field: 'id', as: 'text', start: 'a"b' } },
    })
    expect(server.asked[0]?.body).toBe('{"after":"a\\"b"}')
  })
})

describe('http credentials', () => {
  it.each([
    [
      'bearer',
      { type: 'bearer', token: 'secret' },
      (asked: HttpSource['asked'][0]) => asked.headers.authorization,
      'Bearer secret',
    ],
    [
      'basic',
      { type: 'basic', user: 'u', password: 'p' },
      (asked: HttpSource['asked'][0]) => asked.headers.authorization,
      `Basic ${btoa('u:p')}`,
    ],
    [
      'a key in a header',
      { type: 'api_key', name: 'X-Key', value: 'secret' },
      (asked: HttpSource['asked'][0]) => asked.headers['x-key'],
      'secret',
    ],
    [
      'a key in the query',
      { type: 'api_key', name: 'key', value: 'secret', in: 'query' },
      (asked: HttpSource['asked'][0]) => asked.query.get('key'),
      'secret',
    ],
  ])('go out as %s with each page, and into no cursor', async (_, auth, find, value) => {
    const { positions, records } = await run(inPages('next', { type: 'next', path: 'meta.next' }, { auth }))
    expect(records).toEqual(list(35))
    expect(server.asked.map(find)).toEqual([value, value, value, value])
    expect(JSON.stringify(positions)).not.toContain('secret')
  })

  it('of OAuth 2 are asked for once, and once more when they are refused in the middle', async () => {
    let tokens = 0
    server.interfere = ({ path, headers, body }, response) => {
      if (path === '/token') {
        expect(headers.authorization).toBe(`Basic ${btoa('id:hush')}`)
        expect(body).toBe('grant_type=client_credentials&scope=read')
        tokens += 1
        return response.end(`{"access_token":"t${tokens}","expires_in":3600}`) !== undefined
      }
      const good = server.asked.length < 4 ? 'Bearer t1' : 'Bearer t2'
      return headers.authorization === good ? false : response.writeHead(401).end() !== undefined
    }
    const auth = {
      type: 'oauth2',
      token_url: `${server.origin}/token`,
      client_id: 'id',
      client_secret: 'hush',
      scope: 'read',
    }
    expect(await run(inPages('cursor', { type: 'cursor', path: 'meta.next' }, { auth }))).toMatchObject({
      records: list(35),
      gaps: [],
    })
    expect(tokens).toBe(2)
  })

  it('that are wrong are one gap, without any of them', async () => {
    server.interfere = (_, response) => response.writeHead(401).end('no: secret') !== undefined
    const { gaps } = await run({ url: at('whole'), auth: { type: 'bearer', token: 'secret' } })
    expect(gaps).toMatchObject([{ code: 'SOURCE_DENIED', message: expect.stringMatching(/answers 401; check `auth`/) }])
    expect(JSON.stringify(gaps)).not.toContain('secret')
    expect(server.asked).toHaveLength(1)
  })

  it('that are refused in the middle cost nothing of what came before', async () => {
    server.interfere = ({ query }, response) =>
      query.get('cursor') === '20' ? response.writeHead(401).end() !== undefined : false
    const options = inPages('cursor', { type: 'cursor', path: 'meta.next' }, { auth: { type: 'bearer', token: 't' } })
    const first = await run(options)
    expect(first).toMatchObject({ records: list(20), gaps: [{ code: 'SOURCE_DENIED' }] })
    server.interfere = () => false
    expect(await run(options, first.positions)).toMatchObject({ records: list(15, 20), gaps: [] })
  })
})

describe('a bad http source', () => {
  const answers = (body: string | Buffer, headers: Record<string, string> = {}, status = 200) => {
    server.interfere = (_, response) => response.writeHead(status, headers).end(body) !== undefined
  }

  it.each([
    [
      'HTML by its type',
      () => answers('<html>log in</html>', { 'content-type': 'text/html' }),
      'SOURCE_UNSUPPORTED',
      'an HTML page where JSON was expected',
    ],
    [
      'HTML that says it is JSON',
      () => answers('<!doctype html>', { 'content-type': 'application/json' }),
      'SOURCE_UNSUPPORTED',
      'begins with `<`',
    ],
    ['no JSON', () => answers('{"data": {"items": [1, }'), 'SOURCE_DAMAGED', 'no JSON, at byte'],
    [
      'JSON that ends too soon',
      () => answers('{"data": {"items": [{"id": 1}'),
      'SOURCE_DAMAGED',
      'in the middle of its JSON',
    ],
    ['JSON with records elsewhere', () => answers('{"items": []}'), 'SOURCE_UNSUPPORTED', 'no records at `data.items`'],
    ['404', () => answers('', {}, 404), 'SOURCE_MISSING', 'answers 404'],
    ['400', () => answers('', {}, 400), 'SOURCE_UNREADABLE', 'answers 400'],
    ['503 for ever', () => answers('', {}, 503), 'SOURCE_UNREADABLE', 'answers 503'],
    [
      'a long wish for peace',
      () => answers('', { 'retry-after': '3600' }, 429),
      'SOURCE_UNREADABLE',
      'wants 3600 s of peace',
    ],
    ['an unknown encoding', () => answers('x', { 'content-encoding': 'lzma' }), 'SOURCE_UNSUPPORTED', 'encoding lzma'],
    [
      'no gzip where it says so',
      () => answers('plain', { 'content-encoding': 'gzip' }),
      'SOURCE_DAMAGED',
      'cannot be decompressed',
    ],
    [
      'truncated gzip',
      () => answers(gzipSync('[]'.repeat(10_000)).subarray(0, 20), { 'content-encoding': 'gzip' }),
      'SOURCE_DAMAGED',
      'cannot be decompressed',
    ],
    [
      'truncated zstd',
      () => answers(zstdCompressSync(Buffer.from(list(2000).join())).subarray(0, 2000), { 'content-encoding': 'zstd' }),
      'SOURCE_DAMAGED',
      '',
    ],
    [
      'a gzip bomb',
      () => answers(gzipSync(Buffer.alloc(40 << 20, 32)), { 'content-encoding': 'gzip' }),
      'SOURCE_BOMB',
      'times its size',
    ],
    ['a redirect to itself', () => answers('', { location: '/cursor/l' }, 302), 'SOURCE_UNSUPPORTED', 'without end'],
    [
      'a redirect to a metadata address',
      () => answers('', { location: 'http://169.254.169.254/latest/meta-data' }, 302),
      'SOURCE_DENIED',
      '169.254.169.254 is not a public address',
    ],
    [
      'a body shorter than it says',
      () => answers('{"data":{"items":[]}}', { 'content-length': '500' }),
      'SOURCE_UNREADABLE',
      '',
    ],
  ])('is a gap with its reason, and nothing is taken: %s', async (_, prepare, code, message) => {
    prepare()
    const { records, gaps } = await run({ url: at('whole'), timeouts: { body: '500ms', total: '1s' } })
    expect(records).toEqual([])
    expect(gaps).toMatchObject([{ code, message: expect.stringContaining(message) }])
  })

  it('is a gap when it is not there, does not answer, or dribbles', async () => {
    server.interfere = (_, response) => {
      if (server.asked.length > 1) return true
      response.writeHead(200).write('[')
      const timer = setInterval(() => response.write(' '), 50)
      response.on('close', () => clearInterval(timer))
      return true
    }
    const options = {
      url: at('whole'),
      records: '$',
      retry: { attempts: 1 },
      timeouts: { headers: '200ms', total: '400ms' },
    }
    expect((await run(options)).gaps).toMatchObject([
      { message: expect.stringContaining('no whole answer within 0.4 s') },
    ])
    expect((await run(options)).gaps).toMatchObject([{ code: 'SOURCE_UNREADABLE' }])
    await server.stop()
    expect((await run(options)).gaps).toMatchObject([
      { code: 'SOURCE_UNREADABLE', message: expect.stringContaining('ECONNREFUSED') },
    ])
    await server.start()
  })

  it('is tried again after a 5xx and after the pause that it asks for', async () => {
    const times: number[] = []
    server.interfere = (_, response) => {
      times.push(Date.now())
      if (times.length > 2) return false
      return response.writeHead(times.length === 1 ? 503 : 429, { 'retry-after': '1' }).end() !== undefined
    }
    expect((await run({ url: at('whole') })).records).toEqual(list(35))
    expect((times[2] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1900)
  })

  it('of many megabytes is taken once, though it breaks off twice while it is written', async () => {
    server.lists['l'] = list(90_000)
    server.pageRecords = 40_000
    server.interfere = ({ query }, response) => {
      const cutAt = query.get('cursor') === null ? [] : [3_000_000, 700_000]
      const cut = cutAt[server.asked.length - 2]
      if (cut === undefined) return false
      response.end = ((page: string) => {
        response.setHeader('content-length', Buffer.byteLength(page))
        response.write(page.slice(0, cut), () => setTimeout(() => response.destroy(), 50))
        return response
      }) as typeof response.end
      return false
    }
    const { records, gaps } = await run(inPages('cursor', { type: 'cursor', path: 'meta.next' }))
    expect(server.asked).toHaveLength(5)
    expect(gaps).toEqual([])
    expect(records.length).toBe(90_000)
    expect(records.every((one, n) => one === record(n))).toBe(true)
  })

  it('that sends more than its Content-Length has none of it believed beyond that', async () => {
    const liar = createServer((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[{"id":1}, {"id":2}]'))
      socket.on('error', () => undefined)
    })
    await new Promise<void>((resolve) => liar.listen(0, '127.0.0.1', resolve))
    const { port } = liar.address() as { port: number }
    const { records, gaps } = await run({ url: `http://127.0.0.1:${port}/`, records: '$' })
    expect(records).toEqual([])
    expect(gaps).toMatchObject([{ code: expect.stringMatching(/SOURCE_(?:DAMAGED|UNREADABLE)/) }])
    liar.close()
  })

  it('on this machine is not reached without `allow_private`', async () => {
    const { gaps } = await run({ url: at('whole'), allow_private: false })
    expect(gaps).toMatchObject([{ code: 'SOURCE_DENIED', message: expect.stringContaining('allow_private') }])
    expect(server.asked).toEqual([])
  })

  it('costs no other lane', async () => {
    const url = { good: at('whole'), bad: at('whole', 'nothing') }
    expect(await run({ url })).toMatchObject({
      records: list(35),
      gaps: [{ gap: { lane: 'bad' }, code: 'SOURCE_MISSING' }],
    })
  })

  it('is asked no faster than it may be', async () => {
    const began = Date.now()
    await run(inPages('cursor', { type: 'cursor', path: 'meta.next' }, { requests_per_second: 10 }))
    expect(server.asked).toHaveLength(4)
    expect(Date.now() - began).toBeGreaterThan(280)
  })
})

describe('options of http', () => {
  it('must say what a later run asks for where there are pages', () => {
    const chosen = http.options.safeParse({ url: 'https://a.example/', paginate: { type: 'link' } })
    expect(chosen.error?.issues[0]).toMatchObject({ path: ['again'] })
  })
})

describe('an http source, asked by the doctor', () => {
  const findings = async (options: object) => {
    const controller = new AbortController()
    const env = { answerMs: 2000, signal: controller.signal, now: Date.now } as never
    const diagnosis = http.diagnose?.(http.options.parse({ allow_private: true, ...options }), env)
    const found: Finding[] = []
    for await (const finding of diagnosis?.findings ?? []) found.push(finding)
    return found
  }

  it('is reachable, takes the credentials, and has the right time', async () => {
    const found = await findings({ url: at('whole'), auth: { type: 'bearer', token: 't' } })
    expect(found.map(({ check, status }) => `${check} ${status}`)).toEqual(['reachable ok', 'tls ok', 'clock ok'])
  })

  it('refuses the credentials, or has another time', async () => {
    server.interfere = (_, response) => response.writeHead(403).end() !== undefined
    expect(await findings({ url: at('whole') })).toMatchObject([
      { check: 'reachable', status: 'failed', code: 'SOURCE_DENIED' },
    ])
    server.interfere = (_, response) => {
      response.sendDate = false
      return response.writeHead(200, { date: 'Wed, 01 Jul 2020 10:00:00 GMT' }).end() !== undefined
    }
    expect((await findings({ url: at('whole') })).at(-1)).toMatchObject({ check: 'clock', status: 'warning' })
  })
})
