/** The example that distributes, on data nobody here has made, with a real receiver. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { distribution } from '../../src/distribute/distributor.ts'
import { verifyRun } from '../../src/reconcile/replay-verify.ts'
import { runJobTests } from '../../src/runtime/job-tests.ts'
import { lintJobs } from '../../src/runtime/lint.ts'
import { runJob } from '../../src/runtime/run.ts'
import { duckdbRows } from '../harness/engine.ts'
import { SECRET, WebhookReceiver } from '../harness/webhook-receiver.ts'

const root = join(import.meta.dirname, '..', '..')
const file = join(root, 'jobs', 'weather-alerts.yaml')
const csv = join(root, 'node_modules', 'vega-datasets', 'data', 'seattle-weather.csv')
const log = pino({ level: 'silent' })

let folder: string
let receiver: WebhookReceiver

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-weather-'))
  receiver = new WebhookReceiver()
  await receiver.start()
})

afterEach(async () => {
  await receiver.stop()
  rmSync(folder, { recursive: true, force: true })
})

const environment = () => ({ ADFLOW_OUT: folder, ADFLOW_ALERTS: receiver.url, ADFLOW_ALERTS_SECRET: SECRET })

it('has no mistake and passes its tests', async () => {
  const registry = await loadRegistry()
  const { files } = await lintJobs([file], { registry, log, env: environment(), rate: 1000 })
  expect(files[0]).toMatchObject({ problems: [], warnings: [] })
  const job = await loadJob(file, { registry, env: environment() })
  for await (const { ok, problems } of runJobTests({ job, registry, log }))
    expect({ ok, problems }).toEqual({ ok: true, problems: [] })
})

it('sends the days that SQL by hand finds, in order per quarter, puts all days into the folder, and repeats', async () => {
  const registry = await loadRegistry()
  const job = await loadJob(file, { registry, env: environment() })
  const options = { job, registry, log, stateDir: join(folder, 'state'), command: 'test', version: 'test' }
  const summary = await runJob({ ...options, distribution: distribution() })
  const expected = await duckdbRows(
    `SELECT date::VARCHAR AS day, wind::DECIMAL(6, 2)::VARCHAR AS wind, upper(weather) AS weather, quarter(date)::INTEGER AS q FROM read_csv('${csv}') WHERE wind >= 7 ORDER BY date`,
  )
  expect(summary).toMatchObject({
    status: 'done',
    read: 1461,
    consumers: {
      alerts: { delivered: expected.length, dead: 0, owed: 0 },
      partner: { delivered: 1461, dead: 0, owed: 0 },
    },
  })
  expect(receiver.faults).toEqual([])
  const events = receiver.accepted.flatMap(
    ({ body }) => JSON.parse(body) as { type: string; partitionkey: string; data: { day: string } }[],
  )
  const byDay = (rows: readonly Record<string, unknown>[]) =>
    [...rows].sort((a, b) => String(a['day']).localeCompare(String(b['day'])))
  expect(byDay(events.map(({ data }) => data))).toEqual(
    expected.map(({ day, wind, weather }) => ({ day, wind, weather })),
  )
  expect(new Set(events.map(({ type }) => type))).toEqual(new Set(['com.example.weather.storm']))
  for (const quarter of ['1', '2', '3', '4']) {
    const days = events.filter(({ partitionkey }) => partitionkey === quarter).map(({ data }) => data.day)
    expect(days).toEqual([...days].sort())
  }
  const made = readdirSync(join(folder, 'weather-partner')).filter((name) => name.endsWith('.csv.gz'))
  const [rows] = await duckdbRows(
    `SELECT count(*)::INTEGER AS n FROM read_csv([${made.map((name) => `'${join(folder, 'weather-partner', name)}'`).join(', ')}])`,
  )
  expect(rows?.['n']).toBe(1461)
  const report = await verifyRun({ ...options, run: 'last', signal: new AbortController().signal, shown: 3 })
  expect(report).toMatchObject({ equal: true, exit: 0, records: 1461, differing: [], not_compared: {} })
})
