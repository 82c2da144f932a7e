import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import kafka from '../../src/extractors/kafka.ts'
import s3 from '../../src/extractors/s3.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { type CliOptions, temporaryFolder } from '../harness/cli.ts'
import { HttpSource, record } from '../harness/http-source.ts'
import { SmallJob } from '../harness/small-job.ts'

/** Two sources over HTTP, and one of files. */
function jobOf(http: HttpSource, { dead = '', silence = '2s', transform = '' } = {}): string {
  const paged = 'records: data.items, paginate: { type: cursor, path: meta.next }, again: added, allow_private: true'
  const retry = 'retry: { attempts: 1 }'
  return `version: 1
name: rows
extract:
  dead: { type: http, url: "${http.origin}/cursor/dead", ${paged}, ${retry}, priority: 90, give_up_after: ${silence}${dead} }
  alive: { type: http, url: "${http.origin}/cursor/alive", ${paged}, ${retry} }
  disk: { type: files, path: "data/*.ndjson", settle: 0s }
contract: { columns: { id: { type: bigint, required: true }, name: varchar } }
${transform}load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
`
}

describe('a round over several sources', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let http: HttpSource
  let job: SmallJob
  /** From this cursor on the dead one takes requests and does not answer. undefined: it answers all. */
  let silentFrom: string | null | undefined
  let unanswered: (() => void)[]

  beforeEach(async () => {
    folder = temporaryFolder('round')
    http = await new HttpSource().start()
    silentFrom = null
    unanswered = []
    http.interfere = ({ path, query }, response) => {
      if (!path.endsWith('/dead') || silentFrom === undefined || query.get('cursor') !== silentFrom) return false
      const items = `[${http.lists['dead']?.join(',')}]`
      unanswered.push(() => response.setHeader('content-type', 'application/json').end(`{"data":{"items":${items}}}`))
      return true
    }
    http.lists['dead'] = records(100, 30)
    http.lists['alive'] = records(200, 30)
    job = new SmallJob(folder.path, jobOf(http))
    job.put('data/a.ndjson', `${records(300, 30).join('\n')}\n`)
  })
  afterEach(async () => {
    await http.stop()
    folder.remove()
  })

  const summary = async (args: string[] = [], options?: CliOptions) => (await job.run(args, options)).json<RunSummary>()
  const rows = async () =>
    (await job.warehouse('SELECT count(*)::INTEGER AS n, count(DISTINCT id)::INTEGER AS ids FROM w.rows'))[0]
  const gaps = async () =>
    (await job.command(['gaps', job.file, '--json'])).json<{ gaps: Record<string, unknown>[] }>().gaps
  const closed = () =>
    readFileSync(join(job.state, 'ledger', '000001.ndjson'), 'utf8')
      .split('\n')
      .filter((line) => line.includes('"gap_closed"')).length

  it.each([[['--parallel', '1']], [[]]])('loads the others while one hangs, reading %j', async (args) => {
    job.put('job.yaml', jobOf(http, { silence: '120s' }))
    // It answers when the others are loaded, and not before.
    const started = job.onceClosed(1, () => {
      for (const answer of unanswered) answer()
    })
    expect(await summary(args, { started })).toMatchObject({
      exit: 0,
      gaps: [],
      sources: {
        dead: { state: 'done', records: 30, gaps: 0 },
        alive: { state: 'done', records: 30 },
        disk: { state: 'done', records: 30 },
      },
    })
    expect(await rows()).toEqual({ n: 90, ids: 90 })
  })

  it('gives up servers of every protocol that take the connection and say nothing', async () => {
    const sockets = new Set<Socket>()
    const mute = createServer((socket) => sockets.add(socket.on('error', () => undefined))).listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const host = `127.0.0.1:${(mute.address() as AddressInfo).port}`
    const keys = { access_key_id: 'a', secret_access_key: 'b', region: 'us-east-1' }
    const sources = {
      bucket: { type: 's3', bucket: 'ads', endpoint: `http://${host}`, ...keys },
      folder: {
        type: 'sftp',
        url: `sftp://a@${host}`,
        path: '/in',
        password: 'b',
        host_key: `SHA256:${'a'.repeat(43)}`,
      },
      topic: { type: 'kafka', brokers: host, topics: 'events' },
    }
    const silent = Object.entries(sources).map(
      ([id, options]) => `  ${id}: ${JSON.stringify({ ...options, give_up_after: '300ms' })}`,
    )
    job.put('job.yaml', jobOf(http).replace(/ {2}dead:.*/, silent.join('\n')))
    const run = await summary()
    const given = Object.keys(sources).map((source) => ({ source, code: 'SOURCE_TIMEOUT' }))
    expect([...run.gaps].sort((a, b) => a.source.localeCompare(b.source))).toMatchObject(given)
    expect(run).toMatchObject({ exit: 69, sources: { alive: { state: 'done' }, disk: { state: 'done' } } })
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => mute.close(resolve))
    // Without the option: what the documents say, or what the options of the source need.
    expect(s3.silenceMs?.(s3.options.parse({ bucket: 'ads' }))).toBe(60_000)
    expect(kafka.silenceMs?.(kafka.options.parse({ brokers: host, topics: 'a', patience: '90s' }))).toBe(180_000)
  })

  it('loads what came before the silence, and repays the gap when it is told to, reading nothing else', async () => {
    silentFrom = '20'
    const run = await summary()
    expect(run).toMatchObject({
      exit: 69,
      status: 'gaps',
      gaps: [{ source: 'dead', code: 'SOURCE_TIMEOUT' }],
      sources: { dead: { state: 'gap', records: 20, gaps: 1 }, alive: { state: 'done' }, disk: { state: 'done' } },
    })
    expect(run.gaps[0]?.from).not.toBe('0')
    expect(await rows()).toEqual({ n: 80, ids: 80 })
    const [gap] = await gaps()
    expect(gap).toMatchObject({ source: 'dead', code: 'SOURCE_TIMEOUT', from: run.gaps[0]?.from, times: 1 })
    expect((await job.command(['status', job.file])).stdout).toContain('open gap: dead')
    silentFrom = undefined
    http.lists['alive']?.push(...records(400, 1))
    const collected = await job.command(['gaps', job.file, '--collect', '--json'])
    expect(collected.code).toBe(0)
    expect(collected.json()).toMatchObject({ run: { read: 10, sources: { dead: { state: 'done', records: 10 } } } })
    expect(await rows()).toEqual({ n: 90, ids: 90 })
    expect((await job.command(['gaps', job.file, '--collect'])).stdout).toContain('no open gaps')
    expect(closed()).toBe(1)
  })

  it('closes a gap behind which there is nothing new, and does not fail for an optional source', async () => {
    job.put('job.yaml', jobOf(http, { dead: ', optional: true' }))
    silentFrom = undefined
    await summary()
    silentFrom = '20' // its last page, from which it is read on
    for (const times of [1, 2]) {
      expect(await summary()).toMatchObject({ exit: 0, read: 0, gaps: [{ source: 'dead', optional: true }] })
      expect(await gaps()).toMatchObject([{ source: 'dead', times, optional: true }])
    }
    silentFrom = undefined
    expect(await summary()).toMatchObject({ exit: 0, read: 0, gaps: [] })
    expect(await gaps()).toEqual([])
    expect(closed()).toBe(1)
  })

  it('is cut short by its time limit without losing its place', async () => {
    silentFrom = '10'
    job.put('job.yaml', jobOf(http, { silence: '120s' }))
    const run = await summary(['--within', '2s'])
    expect(run).toMatchObject({ exit: 69, gaps: [{ source: 'dead', code: 'SOURCE_TIMEOUT' }] })
    expect(run.gaps[0]?.message).toContain('dead was not at its end after 2s')
    silentFrom = undefined
    const { read, exit } = await summary()
    expect({ exit, read: run.read + read }).toEqual({ exit: 0, read: 90 })
    expect(await rows()).toEqual({ n: 90, ids: 90 })
    expect(await gaps()).toEqual([])
  })

  it('merges sources that overlap into one stream without a record twice, run after run', async () => {
    silentFrom = undefined
    job.put('job.yaml', jobOf(http, { transform: 'transform: [{ dedupe: { key: [id] } }]\n' }))
    http.lists['alive'] = records(115, 30)
    job.put('data/a.ndjson', `${records(130, 30).join('\n')}\n`)
    expect(await summary()).toMatchObject({ exit: 0, read: 90, deduplicated: 30, passed: 60, unaccounted: 0 })
    http.lists['dead']?.push(...records(150, 20))
    http.lists['alive']?.push(...records(160, 20))
    job.put('data/b.ndjson', `${records(145, 30).join('\n')}\n`)
    // 100 to 159 are known; 160 to 179 are new, from whichever source comes first.
    expect(await summary()).toMatchObject({ exit: 0, read: 70, deduplicated: 50, passed: 20, unaccounted: 0 })
    expect(await summary()).toMatchObject({ exit: 0, read: 0 })
    expect(await rows()).toEqual({ n: 80, ids: 80 })
  })
})

function records(from: number, count: number): string[] {
  return Array.from({ length: count }, (_, index) => record(from + index))
}
