/** Jobs that read from a real Prometheus, by the CLI. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import prometheus from '../../src/extractors/prometheus.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { diagnosed, statuses } from '../harness/diagnosis.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const SERIES = 100
const POINTS = LONG ? 1000 : 40
const STEP_SECONDS = 600
const BEGIN_SECONDS = 1_699_999_800

/** A hundred series, one value of each missing; and the values for which JSON has no number. */
function metrics(): string {
  const spend = Array.from({ length: SERIES * POINTS }, (_, n) => {
    const [series, point] = [n % SERIES, Math.floor(n / SERIES)]
    return series === point ? '' : `spend{campaign="c${series}"} ${n}.25 ${BEGIN_SECONDS + point * STEP_SECONDS}\n`
  })
  const odd = ['NaN', '+Inf', '-Inf', '0.30000000000000004', '-0', '1e+300'].map(
    (value, index) => `odd{index="${index}"} ${value} ${BEGIN_SECONDS}\n`,
  )
  return `# TYPE spend gauge\n${spend.join('')}# TYPE odd gauge\n${odd.join('')}# EOF\n`
}
const SAMPLES = SERIES * POINTS - Math.min(SERIES, POINTS)

await serverSuite('jobs on Prometheus', ['prometheus'], ({ prometheus: shared }) => {
  let server: Awaited<ReturnType<typeof startPrivate<'prometheus'>>>
  let folder: ReturnType<typeof temporaryFolder>
  beforeAll(async () => {
    // Ten points of a hundred series are too much at once.
    server = await startPrivate('prometheus', { metrics: metrics(), flags: ['--query.max-samples=1000'] })
  })
  afterAll(() => server.end())
  beforeEach(() => {
    folder = temporaryFolder('prometheus')
  })
  afterEach(() => folder.remove())

  const options = (more: object = {}) => ({
    type: 'prometheus',
    url: { main: server.endpoint.url },
    queries: { spend: 'spend' },
    step: `${STEP_SECONDS}s`,
    start: new Date(BEGIN_SECONDS * 1000).toISOString(),
    lag: `${Math.floor(Date.now() / 1000) - BEGIN_SECONDS - POINTS * STEP_SECONDS}s`,
    retry: { attempts: 1 },
    allow_private: true,
    ...more,
  })
  const jobOf = (extract: object) =>
    new SmallJob(
      folder.path,
      `version: 1
name: rows
extract: { input: ${JSON.stringify(extract)} }
contract:
  columns:
    server: varchar
    metric: varchar
    go: { type: varchar, from: labels.goversion }
    campaign: { type: varchar, from: labels.campaign }
    index: { type: integer, from: labels.index }
    time: { type: timestamp, required: true }
    value: double
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
`,
    )

  it('loads every sample once with its exact value, though the server refuses the whole at once', async () => {
    const job = jobOf(options())
    expect((await job.run()).json<RunSummary>()).toMatchObject({ exit: 0, read: SAMPLES, quarantined: 0, gaps: [] })
    expect((await job.run()).json<RunSummary>()).toMatchObject({ exit: 0, read: 0 })
    const [found] = await job.warehouse(
      `SELECT count(*)::INTEGER AS rows, count(DISTINCT campaign)::INTEGER AS campaigns, count(DISTINCT (campaign, time))::INTEGER AS points,
        count(*) FILTER (value = (epoch(time) - ${BEGIN_SECONDS}) / ${STEP_SECONDS} * ${SERIES} + campaign[2:]::INTEGER + 0.25)::INTEGER AS exact FROM w.rows`,
    )
    expect(found).toEqual({ rows: SAMPLES, campaigns: SERIES, points: SAMPLES, exact: SAMPLES })
  })

  it('loads NaN, infinities and the last digit as doubles', async () => {
    const job = jobOf(options({ queries: { odd: 'odd' } }))
    expect((await job.run()).json<RunSummary>()).toMatchObject({ exit: 0, read: 6, quarantined: 0 })
    const rows = await job.warehouse('SELECT value::VARCHAR AS value FROM w.rows ORDER BY index')
    expect(rows.map(({ value }) => value)).toEqual(['nan', 'inf', '-inf', '0.30000000000000004', '-0.0', '1e+300'])
  })

  it('loads what the other servers have where one is down, and books a gap for it', async () => {
    const job = jobOf(options({ url: { main: server.endpoint.url, down: 'http://127.0.0.1:9' } }))
    const summary = (await job.run()).json<RunSummary>()
    expect(summary).toMatchObject({ exit: 69, read: SAMPLES, gaps: [{ source: 'input' }] })
    expect(summary.gaps).toHaveLength(1)
    expect(await job.warehouse('SELECT DISTINCT server FROM w.rows')).toEqual([{ server: 'main' }])
  })

  it('says what the server says of a query that does not parse, in the run and before it', async () => {
    const wrong = options({ queries: { wrong: 'sum by (' } })
    const result = await jobOf(wrong).run()
    expect(result.code).toBe(69)
    expect(result.stdout).toMatch(/parse error/)
    const found = await diagnosed(prometheus, without(wrong))
    expect(statuses(found)).toEqual({
      reachable: 'ok',
      clock: 'ok',
      version: 'ok',
      target: 'failed SOURCE_UNREADABLE',
    })
    const nothing = await diagnosed(prometheus, without(options({ queries: { none: 'no_such_metric' } })))
    expect(nothing.at(-1)).toMatchObject({
      check: 'target',
      status: 'warning',
      found: expect.stringMatching(/nothing/),
    })
    expect(statuses(await diagnosed(prometheus, without(options({ url: 'http://127.0.0.1:9' }))))).toEqual({
      reachable: 'failed SOURCE_UNREADABLE',
    })
  })

  it('scrapes the page of a real exporter', async () => {
    const job = jobOf({
      type: 'prometheus',
      mode: 'scrape',
      url: `${shared.url}/metrics`,
      step: '1d',
      allow_private: true,
    })
    const summary = (await job.run()).json<RunSummary>()
    expect(summary).toMatchObject({ exit: 0, quarantined: 0 })
    const [build] = await job.warehouse(`SELECT value, go FROM w.rows WHERE metric = 'prometheus_build_info'`)
    expect(build).toMatchObject({ value: 1, go: expect.stringMatching(/^go1/) })
    expect((await job.run()).json<RunSummary>()).toMatchObject({ exit: 0, read: 0 })
  })
})

function without({ type: _, ...options }: { type: string }): Record<string, unknown> {
  return options
}
