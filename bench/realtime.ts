/**
 * A stream in real time: 1M events a minute from Kafka through types, rules and a memory of ids into PostgreSQL, ClickHouse, Redis and S3, all servers on the
 * same machine. `windows`: minutes by campaign go to the stores; an event is on its way from when the one was sent with which the watermark passes
 * the end of the window, until the row is read. `events`: each event goes there; measured is every tenth, from when it was sent. Clients of
 * the bench ask each store every 50 ms; what they saw is compared with what was sent, by count and sums. `down`: `events` once with all stores, and once
 * with PostgreSQL away. `--rows` is the number of records: a minute for each million. What the job holds is looked at each second, and told of the second quarter and
 * the last. Ids are kept for two minutes: from four million records on, what the last quarter has more than the second is no memory of ids.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunSummary } from '../src/runtime/summary.ts'
import { KafkaWriter } from '../test/harness/kafka-writer.ts'
import { startPrivate } from '../test/harness/servers/private.ts'
import { cpuOf, residentOf } from './measure.ts'
import { CAMPAIGNS, LATENESS_MS, MINUTE_MS, PARTITIONS, type Sums, type Truth, total } from './peers/ad-events.ts'
import { peer, percentiles, startJob, tellPhases } from './peers/child.ts'
import { eventsJob, type Places, windowsJob } from './peers/realtime-job.ts'
import { RedisView } from './peers/redis-view.ts'
import { S3View } from './peers/s3-view.ts'
import { ClickHouseView, PostgresView } from './peers/sql-views.ts'
import type { SeenEvent, StoreView } from './peers/store-view.ts'
import type { BenchOptions } from './run.ts'

export const defaultRows = 10_000_000

/** Records a second. */
const RATE = 1_000_000 / 60
/** Between two looks at a store. */
const EVERY_MS = 50
/** Nothing is measured of what was sent before. */
const WARM_MS = 10_000
/** The last end of a window comes so long before the last record. */
const BEFORE_END_MS = 10_000
/** Longest wait for the last row. */
const PATIENCE_MS = 120_000

type Flavour = 'windows' | 'events'

interface Found {
  /** Milliseconds, by store. */
  readonly waits: ReadonlyMap<string, readonly number[]>
  readonly wrong: readonly string[]
  /** Of each second of the run, in bytes. */
  readonly resident: readonly number[]
  readonly cpuSeconds: number
  readonly summary: RunSummary
  readonly truth: Truth
}

export async function bench({ rows, runs, only }: BenchOptions): Promise<void> {
  for (let run = 0; run < runs; run += 1) {
    for (const flavour of ['windows', 'events'] as const)
      if (only === undefined || only === flavour) tell(flavour, rows, await once(flavour, rows, false))
    if (only !== undefined && only !== 'down') continue
    tell('down: none', rows, await once('events', rows, false))
    tell('down: postgres', rows, await once('events', rows, true))
  }
}

async function once(flavour: Flavour, rows: number, down: boolean): Promise<Found> {
  const folder = join(tmpdir(), 'adflow-bench-realtime')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  await using kafka = await startPrivate('kafka')
  await using postgres = await startPrivate('postgres')
  await using clickhouse = await startPrivate('clickhouse')
  await using redis = await startPrivate('redis')
  await using s3 = await startPrivate('s3')
  const places: Places = {
    brokers: kafka.endpoint.brokers,
    topic: 'ads',
    postgres: postgres.endpoint.url,
    clickhouse: `${clickhouse.endpoint.url}/default`,
    redis: redis.endpoint.url,
    s3: s3.endpoint,
    bucket: 'ads',
  }
  await new KafkaWriter(places.brokers).create(places.topic, { partitions: PARTITIONS })
  writeFileSync(join(folder, 'job.yaml'), flavour === 'windows' ? windowsJob(places) : eventsJob(places))
  const shiftMs = shiftFor((rows / RATE) * 1000)
  const views: StoreView[] = [
    new ClickHouseView(places.clickhouse),
    new RedisView(places.redis),
    new S3View(s3.endpoint, { bucket: places.bucket, shiftMs, folder: join(folder, 'objects') }),
  ]
  if (down) await postgres.kill9()
  else views.unshift(new PostgresView(places.postgres))
  try {
    return await watched({ flavour, rows, shiftMs, folder, places, views })
  } finally {
    await Promise.all(views.map((view) => view.close()))
    rmSync(folder, { recursive: true, force: true })
  }
}

/** So long before they are sent events happen: then minutes end when they should. The records that close the last windows are of the
 *  time at which they are sent, and so a minute and more ahead. */
function shiftFor(lastsMs: number): number {
  const last = Date.now() + lastsMs - BEFORE_END_MS
  return MINUTE_MS + LATENESS_MS + (last % MINUTE_MS)
}

interface Watched {
  readonly flavour: Flavour
  readonly rows: number
  readonly shiftMs: number
  readonly folder: string
  readonly places: Places
  readonly views: readonly StoreView[]
}

async function watched({ flavour, rows, shiftMs, folder, places, views }: Watched): Promise<Found> {
  const job = startJob(join(folder, 'job.yaml'), join(folder, 'state'))
  const over = new AbortController()
  const resident: number[] = []
  const sampling = setInterval(() => resident.push(residentOf(job.process.pid)), 1000)
  const began = Date.now()
  const waits = new Map<string, number[]>(views.map(({ name }) => [name, []]))
  /** When each row of each store was first seen. */
  const firstSeen = new Map<string, Map<string, number>>(views.map(({ name }) => [name, new Map()]))
  const waited = (name: string) => (sentMs: number, seenMs: number) => {
    if (sentMs > began + WARM_MS) waits.get(name)?.push(seenMs - sentMs)
  }
  const looking = views.map(async (view) => {
    for (let more = true; more; ) {
      more = !over.signal.aborted
      const due = performance.now() + EVERY_MS
      if (flavour === 'windows')
        await view.windows((key, atMs = Date.now()) => firstSeen.get(view.name)?.set(key, atMs))
      else await view.events(waited(view.name))
      if (more) await sleep(Math.max(0, due - performance.now()))
    }
  })
  const died = new Promise<never>((_, reject) => {
    job.process.once('close', (code) => over.signal.aborted || reject(new Error(`the job ended with ${code}`)))
  })
  died.catch(() => undefined) // whoever waits is told
  const failed = Promise.race([died, ...looking.map((own) => own.then(() => new Promise<never>(() => undefined)))])
  try {
    const close = flavour === 'windows' ? 'yes' : 'no'
    const args = [places.brokers, places.topic, String(RATE), String(rows), String(shiftMs), close]
    const produced = await Promise.race([failed, peer(over.signal, 'produce-ads.ts', ...args)])
    const truth = JSON.parse(produced) as Truth
    clearInterval(sampling)
    const cpuSeconds = cpuOf(job.process.pid)
    await Promise.race([failed, allThere(flavour, truth, views)])
    over.abort()
    const summary = await job.stop()
    await Promise.all(looking)
    for (const window of flavour === 'windows' ? truth.windows : [])
      for (const campaign of window.closedMs === undefined ? [] : Object.keys(window.campaigns))
        for (const [name, seen] of firstSeen)
          waits
            .get(name)
            ?.push((seen.get(`${window.startMs}:${campaign}`) ?? Number.POSITIVE_INFINITY) - (window.closedMs ?? 0))
    const wrong = await compared(flavour, truth, views, waited)
    return { waits, wrong, resident, cpuSeconds, summary, truth }
  } finally {
    clearInterval(sampling)
    over.abort()
    job.process.kill('SIGKILL')
  }
}

/** Waits until as many rows are there as must be; who is wrong is told by what comes after. */
async function allThere(flavour: Flavour, { all, windows }: Truth, views: readonly StoreView[]): Promise<void> {
  const until = Date.now() + PATIENCE_MS
  const rows = windows.reduce((sum, { campaigns }) => sum + Object.keys(campaigns).length, 0)
  const expected = flavour === 'windows' ? rows : Number(all.count)
  for (const view of views)
    while (((await view.count(flavour)) ?? expected) < expected && Date.now() < until) await sleep(500)
}

/** What of a store is not as it was sent, in words. */
async function compared(
  flavour: Flavour,
  truth: Truth,
  views: readonly StoreView[],
  waited: (name: string) => SeenEvent,
): Promise<string[]> {
  const wrong: string[] = []
  for (const view of views) {
    if (flavour === 'events') {
      wrong.push(...different(view.name, await view.allEvents(waited(view.name)), truth.all))
      continue
    }
    const found = await view.allWindows()
    for (const { startMs, campaigns } of truth.windows)
      for (const [campaign, sums] of Object.entries(campaigns))
        wrong.push(...different(`${view.name} ${startMs}:${campaign}`, found.get(`${startMs}:${campaign}`), sums))
    // Of no campaign is the record at the end alone, and its window is never closed.
    wrong.push(...different(`${view.name} in all`, total([...found.values()]), truth.all))
  }
  return wrong
}

function different(where: string, found: Sums | undefined, expected: Sums): string[] {
  const [is, should] = [JSON.stringify(found && { ...found }), JSON.stringify(expected)]
  return is === should ? [] : [`${where} has ${is} of ${should}`]
}

function tell(name: string, rows: number, found: Found): void {
  const { waits, wrong, resident, cpuSeconds, summary, truth } = found
  for (const [store, of] of waits) {
    const { p50, p95, p99, max } = percentiles(of)
    process.stdout.write(
      `realtime ${name} ${store} p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms, max ${max} ms of ${of.length}\n`,
    )
  }
  const quarter = Math.floor(resident.length / 4)
  const mib = (part: readonly number[]) => Math.round(Math.max(...part) / 2 ** 20)
  const [second, last] = [mib(resident.slice(quarter, 2 * quarter)), mib(resident.slice(-quarter))]
  process.stdout.write(
    `realtime ${name} ${rows} records (${truth.repeated} repeated, ${truth.broken} broken): ${truth.windows.length} minutes of ${CAMPAIGNS} campaigns, ${wrong.length === 0 ? 'all exact' : `${wrong.length} WRONG`}; resident ${second} MiB in the second quarter, ${last} MiB in the last; ${cpuSeconds.toFixed(0)} CPU-s of ${(rows / RATE).toFixed(0)} s, ${summary.batches} batches\n`,
  )
  tellPhases(summary)
  if (wrong.length > 0) throw new Error(wrong.slice(0, 5).join('\n'))
}
