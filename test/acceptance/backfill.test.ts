import type { ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BackfillReport } from '../../src/reconcile/backfill.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { changeDatabase, duckdbRows } from '../harness/engine.ts'
import { QUICKSTART, QuickstartJob } from '../harness/quickstart-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROWS = LONG ? 1_000_000 : 80_000
const KILLS = LONG ? 20 : 6

let folder: ReturnType<typeof temporaryFolder>
let job: QuickstartJob

beforeEach(() => {
  folder = temporaryFolder('backfill')
  job = new QuickstartJob(folder.path)
})

afterEach(() => folder.remove())

/** The quickstart job in many small batches. */
function smallBatches(): string {
  const file = join(folder.path, 'quickstart.yaml')
  writeFileSync(file, readFileSync(QUICKSTART, 'utf8').replace('chunk: 32MB', `chunk: ${LONG ? '2MB' : '400KB'}`))
  return file
}

/** Batches that the ledger has closed or brought back so far. */
function booked(): number {
  const ledger = join(job.state, 'ledger')
  const texts = readdirSync(ledger).map((name) => readFileSync(join(ledger, name), 'utf8'))
  return texts.reduce((total, text) => total + text.split(/"batch_(?:closed|restored)"/).length - 1, 0)
}

/** Kills the process once it has done so many batches more. */
function killAfter(batches: number): (child: ChildProcess) => void {
  const before = booked()
  return (child) => {
    const timer = setInterval(() => booked() >= before + batches && child.kill('SIGKILL'), 5)
    child.once('exit', () => clearInterval(timer))
  }
}

describe('a backfill of a day', () => {
  it(`that overlaps what is loaded, killed ${KILLS} times, loses nothing and doubles nothing`, async () => {
    const seed = Number(process.env['ADFLOW_TEST_SEED'] ?? Date.now() % 1_000_000)
    console.info(`seed ${seed}`)
    let state = seed >>> 0
    const random = (limit: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return Math.floor((state / 2 ** 32) * limit)
    }
    const truth = await job.sample('--rows', String(ROWS), '--seed', '11', '--files', '8')
    // The files of a day, one an hour; runs have read the afternoon, and the stores have lost a part of that.
    const file = smallBatches()
    const run = () => adflow(['run', file, '--json', '--from', '2026-03-01T12:00:00Z'], { env: job.env })
    const files = readdirSync(job.data).filter((name) => name.startsWith('events-'))
    for (const [hour, name] of files.entries()) {
      const at = new Date(Date.UTC(2026, 2, 1, 8 + hour))
      utimesSync(join(job.data, name), at, at)
    }
    expect((await run()).code).toBe(0)
    await changeDatabase(join(folder.path, 'warehouse.duckdb'), `DELETE FROM events WHERE campaign_id % 3 = 0`)
    await changeDatabase(join(folder.path, 'warehouse.duckdb'), `DELETE FROM _adflow_batches WHERE token[1:1] < '4'`)
    const day = ['backfill', file, '--from', '2026-03-01', '--to', '2026-03-02', '--json']
    const dry = (await adflow([...day, '--dry-run'], { env: job.env })).json<BackfillReport>()
    expect(dry.planned.first, JSON.stringify(dry)).toBeGreaterThan(0)
    expect(dry.planned.stores['warehouse']).toBeGreaterThan(0)
    expect(dry.planned.seconds).toBeGreaterThan(0)

    let killed = 0
    for (let kill = 0; kill < KILLS; kill += 1) {
      const planned = (await statuses(file)).length > 0
      // One in four while it starts or plans, the others between two batches.
      const started = killAfter(1 + random(3))
      const early = (child: ChildProcess) => {
        void sleep(300 + random(1500)).then(() => child.kill('SIGKILL'))
        started(child)
      }
      const args = planned ? ['backfill', 'resume', file, 'last', '--json'] : day
      const result = await adflow(args, { env: job.env, started: kill % 4 === 1 ? early : started })
      if (result.signal === 'SIGKILL') killed += 1
    }
    expect(killed).toBe(KILLS)
    expect(await statuses(file)).toMatchObject([{ status: 'interrupted' }])
    const end = await adflow(['backfill', 'resume', file, 'last', '--json'], { env: job.env })
    expect(end.code, end.stdout + end.stderr).toBe(0)
    expect(end.json<BackfillReport>().done?.open ?? 0).toBe(0)
    expect(await job.stores()).toEqual({ warehouse: job.expectedStore(truth), archive: job.expectedStore(truth) })
    // The job itself goes on as if nothing had been.
    const next = (await adflow(['run', file, '--json'], { env: job.env })).json<RunSummary>()
    expect(next).toMatchObject({ status: 'done', exit: 0, unaccounted: 0 })
    expect(await job.stores()).toEqual({ warehouse: job.expectedStore(truth), archive: job.expectedStore(truth) })
    expect((await adflow(['audit', 'verify', file], { env: job.env })).code).toBe(0)
  })
})

describe('backfill --missing', () => {
  it('after 1 % of the ranges were deleted loads exactly those', async () => {
    const truth = await job.sample('--rows', String(ROWS), '--seed', '7', '--files', '4')
    const env = { ...job.env }
    const file = smallBatches()
    expect((await adflow(['run', file, '--json'], { env })).code).toBe(0)
    const warehouse = join(folder.path, 'warehouse.duckdb')
    const tokens = await duckdbRows('SELECT token, "rows" FROM w._adflow_batches ORDER BY hash(token)', [
      `ATTACH '${warehouse}' AS w (READ_ONLY)`,
    ])
    const gone = tokens.slice(0, Math.ceil(tokens.length / 100))
    for (const { token } of gone)
      await changeDatabase(
        warehouse,
        `DELETE FROM events WHERE _batch = TRY_CAST('0x' || '${String(token).slice(0, 16)}' AS UBIGINT)::BIT::BIGINT`,
      )
    const report = (await adflow(['backfill', file, '--missing', '--json'], { env })).json<BackfillReport>()
    const rows = gone.reduce((total, row) => total + Number(row['rows']), 0)
    expect(report).toMatchObject({
      status: 'done',
      exit: 0,
      planned: { first: 0, restore: gone.length, stores: { warehouse: gone.length } },
      done: { rows, stores: { warehouse: { batches: gone.length, rows } } },
    })
    expect(await job.stores()).toEqual({ warehouse: job.expectedStore(truth), archive: job.expectedStore(truth) })
  })
})

async function statuses(file: string): Promise<readonly { status: string }[]> {
  const listed = await adflow(['backfill', 'list', file, '--json'], { env: job.env })
  return listed.json<{ backfills: { status: string }[] }>().backfills
}
