/** What commands say and do of a source whose bytes of the past are gone: by the CLI, over a real HTTP server. */
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { changeDatabase } from '../harness/engine.ts'
import { HttpSource, record } from '../harness/http-source.ts'
import { SmallJob } from '../harness/small-job.ts'

let server: HttpSource
let folder: ReturnType<typeof temporaryFolder>
let job: SmallJob

const list = (count: number, from = 0) => Array.from({ length: count }, (_, n) => record(from + n))
const AMOUNTS = 'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids FROM w.rows'

beforeEach(async () => {
  server = await new HttpSource().start()
  server.pageRecords = 20
  server.lists['l'] = list(200)
  folder = temporaryFolder('http')
  job = new SmallJob(
    folder.path,
    `version: 1
name: rows
extract:
  input: { type: http, url: { l: "${server.origin}/cursor/l" }, records: data.items, paginate: { type: cursor, path: meta.next }, again: added, allow_private: true, retry: { attempts: 1 } }
contract:
  columns: { id: { type: bigint, required: true }, amount: "decimal(38,18)" }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
resources: { chunk: 8kB }
`,
  )
})
afterEach(async () => {
  await server.stop()
  folder.remove()
})

const summary = async () => (await job.run()).json<RunSummary>()
const state = (...args: string[]) => job.command(['state', ...args, '--reason', 'a test'])
const position = async () => {
  const shown = await job.command(['status', job.file, '--json'])
  return shown.json<{ lanes: { at: string }[]; staged: unknown[] }>()
}

describe('a job over HTTP', () => {
  it('says what is staged, and loads it before it fetches more', async () => {
    const killed = await job.run([], { started: job.onceClosed(0, (child) => child.kill('SIGKILL')) })
    expect(killed.signal).toBe('SIGKILL')
    const { staged } = await position()
    expect(staged).toMatchObject([{ source: 'input', lanes: 1, bytes: expect.toSatisfy((bytes) => bytes > 0) }])
    const plan = await job.command(['plan', job.file, '--json'])
    expect(plan.json()).toMatchObject({ sources: [{ replayable: false, lanes: [{ lane: 'l', state: 'staged' }] }] })
    const doctor = await job.command(['doctor', job.file, '--json'])
    expect(doctor.stdout).toMatch(/of input are staged and come first/)
    const asked = server.asked.length
    expect(await summary()).toMatchObject({ exit: 0 })
    expect(server.asked.slice(asked).every(({ query }) => query.get('cursor') !== null)).toBe(true)
    expect(await job.warehouse(AMOUNTS)).toEqual([{ rows: 200, ids: 200 }])
    expect((await position()).staged).not.toContainEqual(
      expect.objectContaining({ bytes: expect.toSatisfy((n) => n > 0) }),
    )
  })

  it('goes on without its staging folder, by the cursor of the checkpoint', async () => {
    await summary()
    rmSync(join(job.state, 'staged'), { recursive: true })
    server.lists['l']?.push(...list(10, 200))
    expect(await summary()).toMatchObject({ exit: 0, read: 10 })
    expect(await job.warehouse(AMOUNTS)).toEqual([{ rows: 210, ids: 210 }])
  })

  it('cannot be put back without --reload, and with it loads what the source has, anew', async () => {
    await summary()
    const refused = await state('rewind', job.file, 'input')
    expect(refused.code).toBe(2)
    expect(refused.stderr).toMatch(/not staged any more.*--reload/s)
    const reloaded = await state('rewind', job.file, 'input', '--reload')
    expect(reloaded.code, reloaded.stderr).toBe(0)
    expect(await summary()).toMatchObject({ exit: 0, read: 200 })
    expect(await job.warehouse(AMOUNTS)).toEqual([{ rows: 400, ids: 200 }])
  })

  it('goes on by the cursor of the ledger after both slots of its checkpoint were lost', async () => {
    await summary()
    for (const slot of ['a', 'b']) writeFileSync(join(job.state, `checkpoint.${slot}`), 'torn')
    rmSync(join(job.state, 'staged'), { recursive: true })
    expect((await job.run()).code).toBe(78)
    const recovered = await job.command(['recover', job.file])
    expect(recovered.code, recovered.stderr).toBe(0)
    server.lists['l']?.push(...list(10, 200))
    expect(await summary()).toMatchObject({ exit: 0, read: 10 })
    expect(await job.warehouse(AMOUNTS)).toEqual([{ rows: 210, ids: 210 }])
  })

  it('repeats what the other slot of its checkpoint lacks, from the stage', async () => {
    await summary()
    const slots = ['a', 'b'].map((slot) => join(job.state, `checkpoint.${slot}`)).filter((path) => existsSync(path))
    expect(slots).toHaveLength(2)
    const asked = server.asked.length
    for (const slot of slots) {
      writeFileSync(slot, 'torn')
      const again = await summary()
      expect(again).toMatchObject({ exit: 0, gaps: [] })
    }
    expect(server.asked.slice(asked).filter(({ query }) => query.get('cursor') === null)).toEqual([])
    expect(await job.warehouse(AMOUNTS)).toEqual([{ rows: 200, ids: 200 }])
  })

  it('is told that the past is gone by replay and backfill, which ask the source nothing', async () => {
    await summary()
    await summary()
    const [run] = (await job.command(['status', job.file, '--json']))
      .json<{ runs: { run: string; batches: number }[] }>()
      .runs.filter(({ batches }) => Number(batches) > 0)
    const asked = server.asked.length
    const replay = await job.command(['replay', run?.run ?? '', '--job', job.file, '--verify', '--json'])
    expect(replay.code).not.toBe(0)
    expect(replay.stdout + replay.stderr).toMatch(/not staged any more/)
    await changeDatabase(join(job.folder, 'warehouse.duckdb'), 'DELETE FROM rows WHERE id < 9007199254741030')
    const backfill = await job.command(['backfill', job.file, '--missing', '--json'])
    expect(backfill.code).not.toBe(0)
    expect(backfill.stdout + backfill.stderr).toMatch(/not staged any more/)
    expect(server.asked).toHaveLength(asked)
    expect(readdirSync(join(job.state, 'staged', 'input'))).toHaveLength(1)
  })
})
