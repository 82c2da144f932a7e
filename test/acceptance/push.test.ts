/** What was pushed and answered for is loaded once, whoever is killed; and the page about it says what works. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../harness/cli.ts'
import { DaemonSite, until } from '../harness/daemons.ts'
import { blocksOf } from '../harness/documents.ts'
import { duckdbRows } from '../harness/engine.ts'
import { freePort, GatewayProcess, pushLoad } from '../harness/push-gateway.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const LOAD = LONG
  ? { clients: 16, eventsPerRequest: 500, eventsPerSecond: 50_000, seconds: 60, kills: 5, killEveryMs: 10_000 }
  : { clients: 4, eventsPerRequest: 100, eventsPerSecond: 10_000, seconds: 0, kills: 2, killEveryMs: 500 }

const JOB = `version: 1
name: rows
extract:
  input: { type: push }
contract:
  columns: { id: { type: bigint, required: true }, micros: "decimal(38,18)" }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
resources: { chunk: ${LONG ? '32MB' : '1MB'} }
`

let folder: ReturnType<typeof temporaryFolder>
let gateway: GatewayProcess | undefined
beforeEach(() => {
  folder = temporaryFolder('push')
})
afterEach(async () => {
  await gateway?.end('SIGKILL')
  gateway = undefined
  folder.remove()
})

const microsOf = (id: number) => `${id}.000000000000000001`

describe('events that are pushed', () => {
  it('are loaded once, each that was answered for, while gateway and job are killed', async () => {
    const job = new SmallJob(folder.path, JOB)
    const state = join(folder.path, 'state')
    gateway = await GatewayProcess.start(['serve-push', job.file], { ADFLOW_STATE_DIR: state })
    const running = gateway
    let over = false
    let kills = 0
    let killedRuns = 0
    const killing = (async () => {
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, LOAD.killEveryMs))
        if (over) return
        await running.end('SIGKILL')
        kills += 1
        await running.start()
      }
    })()
    const loading = (async () => {
      for (let run = 0; !over; run += 1) {
        const started = job.onceClosed(job.closedBatches(), (child) => run % 2 === 0 && child.kill('SIGKILL'))
        const result = await job.run([], { started })
        if (result.signal === 'SIGKILL') killedRuns += 1
        else expect(result.code, result.stdout + result.stderr).toBe(0)
      }
    })()
    const report = await pushLoad({
      ...LOAD,
      over: (seconds) => seconds >= LOAD.seconds && kills >= LOAD.kills && killedRuns > 0,
      url: `${running.url}/push/rows/input`,
      event: (id) => `{"id":${id},"micros":${microsOf(id)}}`,
    })
    over = true
    await Promise.all([killing, loading])
    expect(report.retries).toBeGreaterThan(0)
    expect(await running.end('SIGTERM')).toBe(0)
    expect((await job.summary()).exit).toBe(0)
    const [held] = await job.warehouse(
      'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, min(id)::INTEGER AS first, max(id)::INTEGER AS last FROM w.rows',
    )
    const { acknowledged } = report
    expect(held).toEqual({ rows: acknowledged, ids: acknowledged, first: 0, last: acknowledged - 1 })
    const wrong = await job.warehouse("SELECT id FROM w.rows WHERE micros::VARCHAR <> id || '.000000000000000001'")
    expect(wrong).toEqual([])
    expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
    if (LONG) {
      const { requests, retries, seconds, latenciesMs } = report
      const p99 = latenciesMs[Math.floor(latenciesMs.length * 0.99)]
      console.log(
        `${acknowledged} events in ${requests} requests, ${seconds.toFixed(1)} s: ${Math.round(acknowledged / seconds)} events/s, ` +
          `${kills} kills of the gateway, ${killedRuns} of runs, ${retries} retries, p99 ${p99?.toFixed(0)} ms`,
      )
    }
  })

  it('are loaded once where the disk refuses a write in the middle of a request, again and again', async () => {
    const job = new SmallJob(folder.path, JOB)
    const env = { ADFLOW_STATE_DIR: join(folder.path, 'state') }
    gateway = await GatewayProcess.start(['serve-push', job.file], env, 100)
    const { acknowledged, retries } = await pushLoad({
      ...{ clients: 4, eventsPerRequest: 30, eventsPerSecond: undefined },
      url: `${gateway.url}/push/rows/input`,
      event: (id) => `{"id":${id},"micros":${microsOf(id)},"text":"${'x'.repeat(200)}"}`,
      over: (_, requests) => requests >= 100,
    })
    expect(retries).toBeGreaterThan(3)
    expect(await gateway.end('SIGTERM')).toBe(0)
    expect(await job.summary()).toMatchObject({ exit: 0, read: acknowledged })
    const [held] = await job.warehouse(
      'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids FROM w.rows',
    )
    expect(held).toEqual({ rows: acknowledged, ids: acknowledged })
  })

  it('to a daemon are loaded once, also where another takes over from one that is killed', async () => {
    await using site = new DaemonSite()
    site.put('jobs/rows.yaml', `${JOB}schedule: { cron: "*/2 * * * * *" }\n`)
    const port = await freePort()
    let leader = site.start([`--push=127.0.0.1:${port}`])
    await until('the first leads', () => leader.leads)
    const standby = site.start([`--push=127.0.0.1:${port}`])
    await until('the second stands by', () => standby.says(/^stands by/) !== undefined)
    const pushing = pushLoad({
      ...{ clients: 4, eventsPerRequest: 50, eventsPerSecond: 2000 },
      url: `http://127.0.0.1:${port}/push/rows/input`,
      event: (id) => `{"id":${id},"micros":${microsOf(id)}}`,
      over: (seconds) => leader === standby && seconds > 1 && site.runs('rows').length > 2,
    })
    await until('a run ends', () => site.runs('rows').length > 0)
    leader.kill('SIGKILL')
    await until(
      'the other leads and takes pushes',
      () => standby.leads && standby.says(/^takes pushes at/) !== undefined,
    )
    await leader.ended
    leader = standby
    const { acknowledged, retries } = await pushing
    expect(retries).toBeGreaterThan(0)
    const held = async () =>
      (
        await duckdbRows('SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids FROM w.rows', [
          `ATTACH '${join(site.folder, 'jobs', 'warehouse.duckdb')}' AS w (READ_ONLY)`,
        ]).catch(() => [{ rows: 0, ids: 0 }])
      )[0] // a run has it open
    // No run can open what is looked at: looks that follow upon each other would shut all of them out.
    await until('all are loaded', async () => {
      await new Promise((resolve) => setTimeout(resolve, 500))
      return (await held())?.['rows'] === acknowledged
    })
    expect(await held()).toEqual({ rows: acknowledged, ids: acknowledged })
    leader.kill('SIGTERM')
    expect(await leader.ended).toBe(0)
  })

  it('as docs/push.md shows are loaded, and the gateway ends when it is told to', async () => {
    const blocks = blocksOf('docs/push.md')
    const yaml = blocks.find(({ language, text }) => language === 'yaml' && text.startsWith('version: 1'))?.text ?? ''
    const shell = blocks.find(({ language, text }) => language === 'sh' && text.includes('curl'))?.text ?? ''
    const job = new SmallJob(folder.path, yaml)
    const env = { PUSH_TOKEN_WEB: 'a-token-of-the-web-of-32-characters', ADFLOW_STATE_DIR: join(folder.path, 'state') }
    gateway = await GatewayProcess.start(['serve-push', job.file], env)
    const curls = shell.slice(0, shell.indexOf('adflow run')).replaceAll('http://127.0.0.1:9465', gateway.url)
    const { stdout, stderr } = spawnSync('bash', ['-ec', curls], { env: { ...process.env, ...env }, encoding: 'utf8' })
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown)
    expect(answers, stderr).toMatchObject([1, 2, 2].map((accepted) => ({ accepted, rejected: 0 })))
    expect(await gateway.end('SIGTERM')).toBe(0)
    expect((await job.run([], { env })).code).toBe(0)
    const rows = await duckdbRows(
      'SELECT id::VARCHAR AS id, cost::VARCHAR AS cost FROM w.clicks ORDER BY w.clicks.id',
      [`ATTACH '${join(folder.path, 'clicks.duckdb')}' AS w (READ_ONLY)`],
    )
    expect(rows).toEqual(
      ['1', '2', '4', '5', '9007199254740993'].map((id) => ({ id, cost: id === '1' ? '0.000000000000000001' : null })),
    )
  })
})
