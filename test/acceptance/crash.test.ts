import type { ChildProcess } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ASK_STORES } from '../../src/runtime/checkpoint-slot.ts'
import { openCheckpoints } from '../../src/runtime/checkpoints.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { QUICKSTART, QuickstartJob } from '../harness/quickstart-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROWS = LONG ? 2_000_000 : 300_000
const KILLS = LONG ? 100 : 15

let folder: ReturnType<typeof temporaryFolder>
let job: QuickstartJob

beforeEach(() => {
  folder = temporaryFolder('crash')
  job = new QuickstartJob(folder.path)
})

afterEach(() => folder.remove())

/** Pseudo-random numbers below `limit` from a printed seed. */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed >>> 0
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}

describe('kill -9', () => {
  it(`at ${KILLS} random instants of a run over ${ROWS} events loses nothing and doubles nothing`, async () => {
    const seed = Number(process.env['ADFLOW_TEST_SEED'] ?? Date.now() % 1_000_000)
    console.info(`seed ${seed}`)
    const random = randomFrom(seed)
    const truth = await job.sample('--rows', String(ROWS), '--seed', '11', '--files', '6')
    let killed = 0
    let generations = 0
    // On a busy machine a run has hardly begun by then: the time grows until kills meet runs that are at work.
    let spanMs = 1500
    for (let kill = 0; kill < KILLS; kill += 1) {
      const after = 250 + random(spanMs)
      const result = await job.run([], { started: (child) => void sleep(after).then(() => child.kill('SIGKILL')) })
      if (result.signal === 'SIGKILL') killed += 1
      const checkpoints = await openCheckpoints(job.state, 'quickstart').catch((error: NodeJS.ErrnoException) => error)
      if (!('current' in checkpoints)) throw checkpoints
      if (Number(checkpoints.current.generation) === generations) spanMs = Math.min(spanMs * 1.2, 20_000)
      generations = Number(checkpoints.current.generation)
    }
    expect(killed).toBeGreaterThan(0)
    expect(generations).toBeGreaterThan(0)
    const last = (await job.run()).json<RunSummary>()
    expect(last).toMatchObject({ status: 'done', exit: 0, unaccounted: 0 })
    expect(await job.stores()).toEqual({ warehouse: job.expectedStore(truth), archive: job.expectedStore(truth) })
  })
})

describe('a job whose one store streams', () => {
  it('goes on after kill -9, also where batches had records to reject', async () => {
    const truth = await job.sample('--rows', '150000', '--seed', '5', '--files', '5')
    const file = join(folder.path, 'one-store.yaml')
    writeFileSync(file, oneStore(job.data, join(folder.path, 'out')))
    const run = (started?: (child: ChildProcess) => void) =>
      adflow(
        ['run', file, '--json', '--state-dir', join(folder.path, 'state')],
        started === undefined ? {} : { started },
      )
    const random = randomFrom(5)
    for (let kill = 0; kill < KILLS; kill += 1)
      await run((child) => void sleep(350 + random(500)).then(() => child.kill('SIGKILL')))
    const last = await run()
    expect(last.code, last.stdout).toBe(0)
    const [stored] = await duckdbRows(
      `SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM read_parquet('${folder.path}/out/*.parquet')`,
    )
    // No dedupe here: the duplicates of the sample are loaded with the rest.
    expect(stored).toEqual({ n: String(truth.clean + truth.expect.deduplicated), ids: String(truth.clean) })
  })
})

describe('rewind --reload', () => {
  it('makes the steps forget, so that everything is loaded anew', async () => {
    const truth = await job.sample('--rows', '20000', '--seed', '9', '--files', '2')
    await job.summary()
    const rewound = await adflow(['state', 'rewind', QUICKSTART, 'ad_server', '--reload', '--reason', 'test'], {
      env: job.env,
    })
    expect(rewound.code, rewound.stderr).toBe(0)
    expect(await job.summary()).toMatchObject({
      status: 'done',
      passed: truth.expect.loaded,
      deduplicated: truth.expect.deduplicated,
    })
    const { warehouse } = await job.stores()
    expect(warehouse).toMatchObject({ n: String(2 * truth.clean), ids: String(truth.clean) })
  })
})

describe('a damaged checkpoint', () => {
  // Each byte is damaged and the slots are opened, in LONG with each of its bits. What a run does then follows from what it has found there: each
  // finding that differs gets a run, and so does a byte in twelve parts of the slot (by the CLI) and, in LONG, every eighth one besides.
  it('falls back to the other slot, says so, and still loses and doubles nothing', async () => {
    const truth = await job.sample('--rows', '40000', '--seed', '3', '--files', '2')
    expect(await job.summary()).toMatchObject({ status: 'done' })
    const before = join(folder.path, 'state-before')
    cpSync(job.state, before, { recursive: true })
    const newest = newestSlot(job.state)
    const good = readFileSync(newest)
    const older = join(job.state, newest.endsWith('.a') ? 'checkpoint.b' : 'checkpoint.a')
    const checkpoint = JSON.parse(readFileSync(older, 'utf8').split('\n', 1)[0] as string)
    const held = { ...checkpoint, extra: { ...checkpoint.extra, [ASK_STORES]: true } }
    const coarse = Math.ceil(good.length / 12)
    const findings = new Set<string>()
    const runs: number[] = []
    for (const at of good.keys()) {
      for (const bit of LONG ? [0, 1, 2, 3, 4, 5, 6, 7] : [5]) {
        writeFileSync(newest, damagedAt(good, at, bit))
        const { current, fallback } = await openCheckpoints(job.state, 'quickstart')
        expect({ current, fallback }, `byte ${at}, bit ${bit}`).toMatchObject({
          current: held,
          fallback: { slot: newest.at(-1), generation: checkpoint.generation },
        })
        if (bit !== 5) continue
        const finding = JSON.stringify(fallback)
        if (!findings.has(finding) || at % coarse === 0 || (LONG && at % 8 === 0)) runs.push(at)
        findings.add(finding)
      }
    }
    expect(findings.size).toBeGreaterThan(2)
    console.info(`${good.length} bytes, ${findings.size} findings, ${runs.length} runs`)
    for (const at of runs) {
      rmSync(job.state, { recursive: true })
      cpSync(before, job.state, { recursive: true })
      writeFileSync(newest, damagedAt(good, at, 5))
      const again = at % coarse === 0 ? await job.summary() : await job.runHere()
      expect(again, `byte ${at}`).toMatchObject({ status: 'done', exit: 0, unaccounted: 0 })
      expect(again.warnings.join('\n'), `byte ${at}`).toContain('is damaged')
      // What the lost generation had passed comes again, and the stores refuse it.
      for (const store of Object.values(again.stores)) expect(store, `byte ${at}`).toMatchObject({ loaded: 0, owed: 0 })
    }
    expect(await job.stores()).toEqual({ warehouse: job.expectedStore(truth), archive: job.expectedStore(truth) })
  })

  it('in both slots stops with 78, and recover rebuilds the positions from the stores', async () => {
    const truth = await job.sample('--rows', '40000', '--seed', '3', '--files', '2')
    await job.summary()
    for (const slot of readdirSync(job.state).filter((name) => name.startsWith('checkpoint.')))
      writeFileSync(join(job.state, slot), 'garbage')
    const refused = await job.run()
    expect(refused.code).toBe(78)
    expect(refused.stdout).toContain('adflow recover')
    const recovered = await adflow(['recover', QUICKSTART, '--json'], { env: job.env })
    expect(recovered.code, recovered.stderr).toBe(0)
    expect(await job.summary()).toMatchObject({ status: 'done', exit: 0, passed: 0 })
    expect(await job.stores()).toEqual({ warehouse: job.expectedStore(truth), archive: job.expectedStore(truth) })
  })
})

function damagedAt(good: Buffer, at: number, bit: number): Buffer {
  const bad = Buffer.from(good)
  bad[at] = (good[at] as number) ^ (1 << bit)
  return bad
}

function newestSlot(state: string): string {
  const slots = ['checkpoint.a', 'checkpoint.b'].map((name) => join(state, name))
  const generation = (path: string) =>
    BigInt((JSON.parse(readFileSync(path, 'utf8').split('\n', 1)[0] as string) as { generation: string }).generation)
  return slots.reduce((a, b) => (generation(a) > generation(b) ? a : b))
}

function oneStore(data: string, out: string): string {
  return `version: 1
name: one_store
extract: { events: { type: files, path: "${data}/events-*.ndjson", settle: 0s } }
contract:
  columns:
    event_id: { type: bigint, required: true }
    event_type: { type: varchar, required: true }
    event_time: { type: timestamp, required: true }
    received_at: { type: timestamp, required: true }
    campaign_id: { type: bigint, required: true }
    cost_micros: { type: bigint, required: true }
validate:
  - { id: known, check: "event_type in ('impression', 'click', 'conversion')" }
  - { id: cost, check: "cost_micros >= 0" }
  - { id: late, check: "event_time >= received_at - interval 6 hours" }
  - { id: future, check: "event_time <= received_at + interval 5 minutes" }
load: { out: { type: files, format: parquet, path: "${out}" } }
resources: { chunk: 1MB }
`
}
