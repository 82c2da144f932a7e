/** Reference data that change while a job runs and is killed: each batch sees one version, and the same one when it is repeated. */
import { randomInt } from 'node:crypto'
import { appendFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const KILLS = LONG ? 20 : 1
const PATIENCE = { timeout: 60_000, interval: 20 }

const JOB = `version: 1
name: rows
until: forever
extract:
  input: { type: files, path: "data/*", settle: 0s, poll: 20ms }
contract:
  columns: { id: bigint, side: varchar }
transform:
  - lookup: { table: rates, from: { type: files, path: rates.csv }, refresh: 100ms, on: { side: side }, select: [rate, code] }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
  archive: { type: files, format: ndjson, path: archive }
resources: { chunk: 4kB }
`

it(`are read again while batches pass, in a job that is killed ${KILLS} times`, async () => {
  const folder = temporaryFolder('lookups')
  const job = new SmallJob(folder.path, JOB)
  const source = job.put('data/a.ndjson', '')
  let [next, version] = [0, 0]
  const write = () => {
    const line = () => `{"id":${next},"side":"${next++ % 2 === 0 ? 'left' : 'right'}"}\n`
    appendFileSync(source, Array.from({ length: 50 }, line).join(''))
  }
  const put = (text: string) => renameSync(job.put('new.csv', text), join(folder.path, 'rates.csv'))
  const change = () => {
    version += 1
    // Once the codes are text they stay so: `007` is no number in a version in which all of them could be.
    put(`side,rate,code\nleft,${version},${version === 1 ? 'x' : '007'}\nright,${version},007\n`)
  }
  const started = (act: (pid: number) => void) => ({
    started: ({ pid }: { pid?: number | undefined }) => act(pid ?? 0),
  })

  change()
  const changing = setInterval(() => {
    change()
    write()
  }, 30)
  for (let kill = 0; kill < KILLS; kill += 1) {
    const killed = job.closedBatches() + 8 + randomInt(8)
    const ended = job.run([], { started: job.onceClosed(killed, (child) => child.kill('SIGKILL')) })
    expect((await ended).signal).toBe('SIGKILL')
  }
  clearInterval(changing)

  // A version that would double rows is left aside, and the one before stays.
  const good = version
  const child = Promise.withResolvers<number>()
  const ended = job.run([], started(child.resolve))
  const pid = await child.promise
  const running = job.closedBatches()
  await vi.waitFor(() => {
    write()
    expect(job.closedBatches()).toBeGreaterThan(running + 1)
  }, PATIENCE)
  put('side,rate,code\nleft,-1,x\nleft,-1,y\n')
  const broken = performance.now() + 1500
  await vi.waitFor(() => {
    write()
    expect(performance.now()).toBeGreaterThan(broken)
  }, PATIENCE)
  process.kill(pid, 'SIGTERM')
  const result = await ended
  expect(result.json<RunSummary>()).toMatchObject({ exit: 0, unaccounted: 0 })
  expect(result.json<RunSummary>().warnings.join()).toMatch(
    /rates cannot be read again, and stay as they were \d+s ago: .*repeated key/,
  )
  change()
  expect((await job.run(['--until', 'now'])).json<RunSummary>()).toMatchObject({ exit: 0, unaccounted: 0 })

  const stored = await job.warehouse('SELECT id, rate, code FROM w.rows ORDER BY id')
  expect(stored.map(({ id }) => Number(id))).toEqual(Array.from({ length: next }, (_, id) => id))
  expect(new Set(stored.map(({ rate }) => Number(rate))).size).toBeGreaterThan(KILLS * 3)
  expect(stored.at(-1)).toMatchObject({ rate: String(version), code: '007' })
  expect(stored.some(({ rate }) => Number(rate) === good)).toBe(true)
  const archived = `SELECT id, rate, code FROM read_json('${folder.path}/archive/**/*.ndjson', columns = {id: 'BIGINT', rate: 'BIGINT', code: 'VARCHAR'}) ORDER BY id`
  expect(await duckdbRows(archived)).toEqual(stored)
  expect(await job.warehouse('SELECT _batch FROM w.rows GROUP BY _batch HAVING count(DISTINCT rate) <> 1')).toEqual([])
  // By the versions that the ledger names, not by the one with which the run began.
  const [first] = await duckdbRows(
    `SELECT run FROM read_json('${job.state}/ledger/*.ndjson', union_by_name = true) WHERE type = 'batch_closed' ORDER BY seq LIMIT 1`,
  )
  const again = await job.command(['replay', String(first?.['run']), '--job', job.file, '--verify', '--json'])
  expect(again.code, again.stdout + again.stderr).toBe(0)
  folder.remove()
})
