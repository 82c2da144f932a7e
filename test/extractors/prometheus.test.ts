/** What a real Prometheus does not answer when a test asks for it: answers of others in its place, and answers that go wrong. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Positions } from '../../src/core/contracts.ts'
import prometheus from '../../src/extractors/prometheus.ts'
import { HttpSource } from '../harness/http-source.ts'
import { stagedRun } from '../harness/staged-run.ts'

const root = await mkdtemp(join(tmpdir(), 'adflow-prometheus-'))
let server: HttpSource
let cases = 0

beforeEach(async () => {
  cases += 1
  server = await new HttpSource().start()
})
afterEach(() => server.stop())
afterAll(() => rm(root, { recursive: true, force: true }))

const BEGIN = Date.parse('2026-03-01T00:00:00Z')
const MINUTE = 60_000

function run(options: object = {}, from: Positions = {}) {
  const defaults = {
    url: { main: server.origin },
    queries: { q: 'a_metric' },
    start: new Date(BEGIN).toISOString(),
    // Ten minutes of it are there.
    lag: `${Date.now() - BEGIN - 10 * MINUTE}ms`,
    retry: { attempts: 2, initial: '5ms', max: '10ms' },
    allow_private: true,
  }
  return stagedRun(prometheus, { ...defaults, ...options }, { root, stage: join(root, String(cases)), from })
}

/** Answers each request: by its form. */
function answer(
  with_: (form: URLSearchParams, path: string) => { status?: number; type?: string; body: unknown },
): void {
  server.interfere = ({ body, path }, response) => {
    const { status = 200, type = 'application/json', body: said } = with_(new URLSearchParams(body), path)
    response.writeHead(status, { 'content-type': type })
    response.end(typeof said === 'string' ? said : JSON.stringify(said))
    return true
  }
}

const success = (result: unknown, more: object = {}) => ({
  body: { status: 'success', data: { resultType: 'matrix', result }, ...more },
})
/** One series, with a value at each point that is asked for. */
const everyPoint = (form: URLSearchParams) => {
  const [start, end, step] = ['start', 'end', 'step'].map((name) => Number(form.get(name))) as [number, number, number]
  const count = Math.round((end - start) / step) + 1
  const values = Array.from({ length: count }, (_, n) => [start + n * step, String(n)])
  return success([{ metric: { __name__: 'a_metric', x: 'y' }, values }])
}

describe('points over time', () => {
  it('are those of the step, each once, however often and from wherever the run begins again', async () => {
    answer(everyPoint)
    const start = new Date(BEGIN + 17_001).toISOString()
    const first = await run({ max_points: 3, start })
    const times = first.records.map((line) => Date.parse((JSON.parse(line) as { time: string }).time))
    expect(times).toEqual(Array.from({ length: 10 }, (_, n) => BEGIN + (n + 1) * MINUTE))
    const second = await run({ lag: `${Date.now() - BEGIN - 12 * MINUTE}ms` }, first.positions)
    expect(second.records.map((line) => (JSON.parse(line) as { time: string }).time)).toEqual([
      '2026-03-01T00:11:00.000Z',
      '2026-03-01T00:12:00.000Z',
    ])
    const asked = server.asked.length
    expect((await run({ lag: `${Date.now() - BEGIN - 12 * MINUTE}ms` }, second.positions)).records).toEqual([])
    expect(server.asked).toHaveLength(asked)
  })

  it('go on after those that came before the server broke', async () => {
    answer((form) => (server.asked.length > 2 ? { status: 500, body: 'no' } : everyPoint(form)))
    const first = await run({ max_points: 3 })
    expect(first.records).toHaveLength(6)
    expect(first.gaps).toMatchObject([{ code: 'SOURCE_UNREADABLE', message: expect.stringMatching(/answers 500/) }])
    answer(everyPoint)
    const second = await run({}, first.positions)
    expect(second.records).toHaveLength(5)
    expect(second.gaps).toEqual([])
  })

  it('are asked for in smaller parts where the answer is too much for the server or for `max_page`', async () => {
    answer((form) => {
      const points = (Number(form.get('end')) - Number(form.get('start'))) / Number(form.get('step')) + 1
      if (points > 4)
        return {
          status: 422,
          body: {
            status: 'error',
            errorType: 'execution',
            error: 'query processing would load too many samples into memory',
          },
        }
      return everyPoint(form)
    })
    expect(await run()).toMatchObject({ records: { length: 11 }, gaps: [] })
    cases += 1
    answer(everyPoint)
    expect(await run({ max_page: '150B' })).toMatchObject({ records: { length: 11 }, gaps: [] })
    cases += 1
    const [gap] = (await run({ max_page: '20B' })).gaps
    expect(gap).toMatchObject({ code: 'SOURCE_BOMB', message: expect.stringMatching(/raise `max_page`/) })
  })
})

describe('answers', () => {
  it('keep every digit, NaN, infinities, native histograms and all of Unicode', async () => {
    const histogram = { count: '9007199254740993', sum: '0.1', buckets: [[0, '0.5', '1', '3']] }
    answer(() =>
      success([
        {
          metric: JSON.parse(String.raw`{"name":"ü \"\\ 🙂\n","__proto__":"p"}`),
          values: [
            [BEGIN / 1000, '0.30000000000000004'],
            [BEGIN / 1000 + 0.001, '1e+300'],
            [BEGIN / 1000 + 60, 'NaN'],
            [BEGIN / 1000 + 120, '-Inf'],
          ],
          histograms: [[BEGIN / 1000, histogram]],
        },
      ]),
    )
    const { records } = await run({ max_points: 11 })
    const head = String.raw`{"server":"main","query":"q","metric":null,"labels":{"name":"ü \"\\ 🙂\n","__proto__":"p"},`
    expect(records).toEqual([
      `${head}"time":"2026-03-01T00:00:00.000Z","value":0.30000000000000004}`,
      `${head}"time":"2026-03-01T00:00:00.001Z","value":1e+300}`,
      `${head}"time":"2026-03-01T00:01:00.000Z","value":"NaN"}`,
      `${head}"time":"2026-03-01T00:02:00.000Z","value":"-Infinity"}`,
      `${head}"time":"2026-03-01T00:00:00.000Z","value":null,"histogram":${JSON.stringify(histogram)}}`,
    ])
  })

  it('with a warning are a gap, or are kept; a remark on the query is neither', async () => {
    const warnings = ['store 10.0.0.7 does not answer']
    answer(() => success([], { warnings }))
    const [gap] = (await run()).gaps
    expect(gap).toMatchObject({
      code: 'SOURCE_UNREADABLE',
      message: expect.stringMatching(/store 10.0.0.7 does not answer.*partial: keep/),
    })
    cases += 1
    expect((await run({ partial: 'keep' })).gaps).toEqual([])
    cases += 1
    answer((form) => ({
      body: {
        ...everyPoint(form).body,
        warnings: ['PromQL warning: quantile'],
        infos: ['PromQL info: rate of a gauge'],
      },
    }))
    expect(await run()).toMatchObject({ records: { length: 11 }, gaps: [] })
  })

  it.each([
    ['HTML', { type: 'text/html', body: '<html>Log in</html>' }, 'SOURCE_DAMAGED', /sends HTML/],
    ['other JSON', { body: '{"ok":true}' }, 'SOURCE_DAMAGED', /no answer of the Prometheus API/],
    ['JSON that breaks off', { body: '{"status":"success","data":{' }, 'SOURCE_DAMAGED', /no answer of/],
    ['401', { status: 401, body: 'no' }, 'SOURCE_DENIED', /answers 401.*`auth`/],
    ['404', { status: 404, body: 'no' }, 'SOURCE_MISSING', /answers 404/],
    [
      'a query that it does not understand',
      { status: 400, body: { status: 'error', errorType: 'bad_data', error: 'invalid parameter "query": 1:5: oops' } },
      'SOURCE_UNREADABLE',
      /1:5: oops.*correct the query/,
    ],
    [
      'a result that is none',
      { body: { status: 'success', data: { resultType: 'streams', result: [] } } },
      'SOURCE_UNSUPPORTED',
      /type streams/,
    ],
  ])('that are %s are a gap that says so', async (_, said, code, message) => {
    answer(() => said)
    const { gaps, records } = await run()
    expect(records).toEqual([])
    expect(gaps).toMatchObject([{ code, message: expect.stringMatching(message) }])
  })

  it('that do not come within the time-out are a gap, and private addresses are not asked', async () => {
    server.interfere = () => true
    const [slow] = (await run({ timeout: '100ms', retry: { attempts: 1 } })).gaps
    expect(slow).toMatchObject({ code: 'SOURCE_UNREADABLE' })
    cases += 1
    const [denied] = (await run({ allow_private: false })).gaps
    expect(denied).toMatchObject({ code: 'SOURCE_DENIED', message: expect.stringMatching(/allow_private/) })
    expect(server.asked).toHaveLength(1)
  })

  it('to credentials, tenants and further parameters go with each request', async () => {
    answer(everyPoint)
    await run({
      auth: { type: 'bearer', token: 't0ken' },
      headers: { 'X-Scope-OrgID': 'ads' },
      params: { dedup: 'false' },
    })
    const [asked] = server.asked
    expect(asked?.headers).toMatchObject({ authorization: 'Bearer t0ken', 'x-scope-orgid': 'ads' })
    expect(asked?.body).toContain('dedup=false')
    expect(asked?.body).toContain('timeout=10.000')
  })
})

describe('a page that is scraped', () => {
  const scrape = () => ({ url: { node: `${server.origin}/metrics` }, mode: 'scrape', queries: {}, step: '1d' })

  it('gives its samples once per step', async () => {
    answer(() => ({ type: 'text/plain', body: '# TYPE a counter\na{b="c"} 1 1772323200000\nup 1\n' }))
    const first = await run(scrape())
    expect(first.records[0]).toBe(
      '{"server":"node","metric":"a","labels":{"b":"c"},"type":"counter","time":"2026-03-01T00:00:00.000Z","value":1}',
    )
    expect(first.records).toHaveLength(2)
    expect((await run(scrape(), first.positions)).records).toEqual([])
  })

  it('with a line that is no sample is a gap, and nothing of it is taken', async () => {
    answer(() => ({ type: 'text/plain', body: 'up 1\nbroken{\n' }))
    const { records, gaps } = await run(scrape())
    expect(records).toEqual([])
    expect(gaps).toMatchObject([{ code: 'SOURCE_DAMAGED', message: expect.stringMatching(/line 2/) }])
  })
})

it.each([
  [{ mode: 'scrape' }, /takes no queries/],
  [{ queries: {} }, /name at least one/],
  [{ url: 'http://user:password@host' }, /credentials go to `auth`/],
  [{ max_points: 11_001 }, /11000/],
  [{ tls: { certificate: 'c.pem' } }, /belong together/],
])('the options %j are refused', (options, message) => {
  const all = { url: 'http://p:9090', queries: { q: 'up' }, ...options }
  expect(() => prometheus.options.parse(all)).toThrow(message)
})
