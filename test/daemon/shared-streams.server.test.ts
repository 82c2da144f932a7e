/**
 * Daemons on several machines, each with a folder of its own, share a stream by PostgreSQL: one job in shards, and one with windows that is
 * run whole. They come, are told to go, are killed, and stand still for longer than their leases.
 */
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import type { JobLine } from '../../src/daemon/face.ts'
import { DaemonSite, type RunningDaemon, until } from '../harness/daemons.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { freshClickHouseDatabase, freshDatabase, freshName } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const PARTITIONS = 8
const SHARDS = LONG ? 4 : 2
const REBALANCES = LONG ? 50 : 3
const CAMPAIGNS = 4
const BATCH = LONG ? 400 : 80
const EVERY_MS = 100
const PER_MINUTE = 1000
const START = Date.UTC(2026, 0, 5, 12)
// On a machine that is busy with other tests a process may wait for seconds.
const LEASE_MS = 6000
const TOKEN = 'a-token-that-has-more-than-32-characters'
const WITHIN_MS = LONG ? 300_000 : 120_000
/** How long the first of those that stand still does so at least. */
const STILL_MS = LONG ? 60_000 : 0

interface Machine {
  readonly folder: string
  readonly daemon: RunningDaemon
}

await serverSuite(
  'a stream that daemons share',
  ['kafka', 'postgres', 'clickhouse'],
  ({ kafka, postgres, clickhouse }) => {
    it(
      `through ${REBALANCES} rebalances: each event once in each store, each window once, and nothing by whoever woke up`,
      async () => {
        await using site = new DaemonSite()
        await using database = await freshDatabase(postgres)
        await using tables = await freshClickHouseDatabase(clickhouse)
        const topic = freshName('shared')
        const writer = new KafkaWriter(kafka.brokers)
        await writer.create(topic, { partitions: PARTITIONS })
        const about = { brokers: kafka.brokers, topic, postgres: database.url, clickhouse: tables.url }
        site.put('jobs/flow.yaml', flowJob(about))
        site.put('jobs/minutes.yaml', minutesJob(about))
        const group = new Group(site, database.url)

        let sent = 0
        let writing = true
        const written = (async () => {
          for (; writing; await delay(EVERY_MS)) {
            const events = Array.from({ length: BATCH }, (_, index) => eventOf(sent + index))
            await writer.send(topic, events)
            sent += BATCH
          }
        })()
        let fenced = 0
        try {
          await group.start()
          for (let done = 0; done < REBALANCES; done += 1) {
            await group.settled()
            // The load goes through, whoever has what.
            const goal = sent
            await until(`${goal} are loaded`, async () => (await countOf(database.url)) >= goal, WITHIN_MS)
            // Divided anew while a machine stands still: its runs are of parts that the job has no more.
            if (done % 3 === 1) {
              group.shards = group.shards === SHARDS ? SHARDS + 1 : SHARDS
              site.put('jobs/flow.yaml', flowJob(about, group.shards))
            }
            fenced += await group.disturb(done)
          }
          await group.settled()
        } finally {
          writing = false
          await written
        }
        for (let partition = 0; partition < PARTITIONS; partition += 1)
          await writer.send(topic, [{ partition, value: textOf(-1 - partition, Date.UTC(2026, 5, 1), 'end') }])
        const all = sent + PARTITIONS
        await until(`${all} are loaded`, async () => (await countOf(database.url)) >= all, WITHIN_MS)
        await until(
          'they are in ClickHouse',
          async () => Number((await inClickHouse(tables.url))['n']) >= all,
          WITHIN_MS,
        )
        const windows = `SELECT window_start, campaign, n, ids FROM minutes WHERE campaign <> 'end' ORDER BY 1, 2`
        const expected = await rowsOf(
          database.url,
          `SELECT date_trunc('minute', t) AS window_start, campaign, count(*) AS n, count(DISTINCT id) AS ids FROM events
         WHERE campaign <> 'end' GROUP BY 1, 2 ORDER BY 1, 2`,
        )
        await until(
          'the windows are closed',
          async () => (await rowsOf(database.url, windows)).length >= expected.length,
          WITHIN_MS,
        )
        await group.pause('flow')
        await group.end()

        const ids = (sent * (sent - 1)) / 2 - (PARTITIONS * (PARTITIONS + 1)) / 2
        const totals = 'SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(id)::bigint AS total FROM events'
        expect(await rowsOf(database.url, totals), group.told()).toEqual([
          { n: `${all}`, ids: `${all}`, total: `${ids}` },
        ])
        expect(await inClickHouse(tables.url), group.told()).toEqual({ n: all, ids: all, total: ids })
        expect(await rowsOf(database.url, windows)).toEqual(expected)
        expect(fenced).toBeGreaterThan(0)
      },
      LONG ? 3_000_000 : 300_000,
    )

    // Of one machine, with the state in files: the easier half of the above.
    const onlyLong = LONG ? it : undefined
    onlyLong?.(
      'on one machine, through 20 kills of a part, half of them while it is divided anew: each event once',
      async () => {
        await using site = new DaemonSite()
        await using database = await freshDatabase(postgres)
        const topic = freshName('shards')
        const writer = new KafkaWriter(kafka.brokers)
        await writer.create(topic, { partitions: PARTITIONS })
        const about = { brokers: kafka.brokers, topic, postgres: database.url, shared: false }
        site.put('jobs/flow.yaml', flowJob(about))
        let sent = 0
        const write = async (): Promise<number> => {
          await writer.send(
            topic,
            Array.from({ length: BATCH }, (_, index) => eventOf(sent + index)),
          )
          sent += BATCH
          return sent
        }
        const loaded = async (wanted: number) =>
          until(`${wanted} are loaded`, async () => (await countOf(database.url)) >= wanted, WITHIN_MS)

        const daemon = site.start()
        await write()
        await loaded(sent)
        let last = SHARDS
        for (let kill = 0; kill < 20; kill += 1) {
          const writing = write()
          if (kill % 2 === 1) {
            last = [SHARDS, 1, 2, SHARDS + 1][((kill + 1) / 2) % 4] ?? SHARDS
            site.put('jobs/flow.yaml', flowJob(about, last))
            await delay(randomInt(1_000, 4_000))
          }
          const pid = site.pidOf('flow')
          if (pid !== undefined) process.kill(pid, 'SIGKILL')
          await writing
          await loaded(sent)
        }
        expect(await rowsOf(database.url, 'SELECT count(*) AS n, count(DISTINCT id) AS ids FROM events')).toEqual([
          { n: `${sent}`, ids: `${sent}` },
        ])
        await until('the parts say so', async () => {
          const { shards, lag } = await daemon.get<JobLine>('/api/v1/jobs/flow')
          return lag === 0 && shards.filter(({ live }) => live !== null).length === last
        })
        const { shards } = await daemon.get<JobLine>('/api/v1/jobs/flow')
        expect(shards.map(({ shard }) => shard)).toEqual(Array.from({ length: last }, (_, index) => `${index}/${last}`))
        daemon.kill('SIGTERM')
        expect(await daemon.ended).toBe(0)
      },
    )
  },
)

/** Two or three daemons. */
class Group {
  readonly #site: DaemonSite
  readonly #url: string
  /** Of the job that has some. */
  shards = SHARDS
  #machines: Machine[] = []
  #stillMs = STILL_MS
  #started = 0

  constructor(site: DaemonSite, url: string) {
    this.#site = site
    this.#url = url
  }

  async start(): Promise<void> {
    this.#started += 1
    const folder = join(this.#site.folder, 'machines', `${this.#started}`)
    // Told where the state is by the command line, and by the job files alone: they are daemons of one kind.
    const args = this.#started % 2 === 0 ? [] : ['--state-dir', stateUrl(this.#url)]
    const daemon = this.#site.start(args, { ADFLOW_STATE_DIR: folder, ADFLOW_DAEMON_TOKEN: TOKEN })
    this.#machines.push({ folder, daemon })
    await until('it leads its folder', () => daemon.leads)
  }

  /** Each part is run, by one of those that live, and none of them has two more than another. */
  async settled(): Promise<void> {
    await until(`${this.#machines.length} daemons share all parts\n`, () => this.#isSettled(), WITHIN_MS)
  }

  async #isSettled(): Promise<boolean> {
    const claims = await rowsOf(this.#url, 'SELECT unit, member, leaving FROM adflow.claims').catch(() => [])
    const loads = [...Map.groupBy(claims, ({ member }) => member).values()].map(({ length }) => length)
    const held = await rowsOf(
      this.#url,
      `SELECT name FROM adflow.leases WHERE name <> '_daemon' AND expires > clock_timestamp()`,
    ).catch(() => [])
    const fair = loads.length === this.#machines.length && Math.max(...loads) - Math.min(...loads) <= 1
    return (
      fair &&
      claims.length === this.shards + 1 &&
      held.length === this.shards + 1 &&
      claims.every(({ leaving }) => leaving === false)
    )
  }

  /** What happens next. Resolves to the number of runs that were refused for being late. */
  async disturb(round: number): Promise<number> {
    const oldest = this.#machines[0]
    const kind = this.#machines.length < 2 ? 0 : LONG && this.#machines.length < 3 ? round % 4 : ((round + 2) % 3) + 1
    if (kind === 0 || oldest === undefined) await this.start()
    else if (kind === 1) return this.#standStill(oldest)
    else {
      this.#machines.shift()
      if (kind === 2) this.#kill(oldest)
      else oldest.daemon.kill('SIGTERM')
      const code = await oldest.daemon.ended
      expect(code, oldest.daemon.stderr).toBe(kind === 2 ? 'SIGKILL' : 0)
      if (this.#machines.length === 0) await this.start()
    }
    return 0
  }

  /** As when the machine is gone. */
  #kill({ folder, daemon }: Machine): void {
    daemon.kill('SIGKILL')
    this.#signal(folder, 'SIGKILL')
  }

  /** As when the machine is suspended, for longer than its leases. */
  async #standStill({ folder, daemon }: Machine): Promise<number> {
    daemon.kill('SIGSTOP')
    const runs = this.#signal(folder, 'SIGSTOP')
    const others = this.#machines.filter((each) => each.folder !== folder)
    this.#machines = others
    const still = delay(this.#stillMs)
    this.#stillMs = 0
    await this.settled()
    await still
    this.#machines = [...others, { folder, daemon }]
    daemon.kill('SIGCONT')
    this.#signal(folder, 'SIGCONT')
    const fenced = () => daemon.lines.filter(({ code }) => code === 'FENCED').length
    await until(`${runs} runs are refused`, () => fenced() >= runs, WITHIN_MS)
    return runs
  }

  #signal(folder: string, signal: NodeJS.Signals): number {
    const pids = this.#site.runsIn(folder)
    for (const pid of pids) process.kill(pid, signal)
    return pids.length
  }

  /** Asked of one, it is paused on all. */
  async pause(job: string): Promise<void> {
    const [first] = this.#machines
    this.#site.put('state/_daemon/token', TOKEN)
    await first?.daemon.post(`/api/v1/jobs/${job}/pause`, { who: 'test', why: 'test' })
    for (const { daemon } of this.#machines)
      await until(`${job} is paused`, async () => (await daemon.get<JobLine>(`/api/v1/jobs/${job}`)).state === 'paused')
    const held = `SELECT name FROM adflow.leases WHERE name LIKE '${job}%' AND expires > clock_timestamp()`
    await until(`nobody runs ${job}`, async () => (await rowsOf(this.#url, held)).length === 0, WITHIN_MS)
  }

  async end(): Promise<void> {
    for (const { daemon } of this.#machines) daemon.kill('SIGTERM')
    for (const { daemon } of this.#machines) expect(await daemon.ended, daemon.stderr).toBe(0)
  }

  told(): string {
    return this.#site.daemons.map(({ stderr }, index) => `${index + 1}:\n${stderr}`).join('')
  }
}

interface Places {
  readonly brokers: string
  readonly topic: string
  readonly postgres: string
  readonly clickhouse?: string
  /** Its state is. */
  readonly shared?: boolean
}

function flowJob({ clickhouse, shared = true, ...places }: Places, shards = SHARDS): string {
  const second =
    clickhouse === undefined
      ? ''
      : `  clickhouse: { type: clickhouse, url: ${JSON.stringify(clickhouse)}, table: events }\n`
  return `${headOf('flow', { ...places, shared })}load:
  postgres: { type: postgres, url: ${JSON.stringify(places.postgres)}, table: events }
${second}stream: { shards: ${shards} }
`
}

function minutesJob(places: Omit<Places, 'clickhouse'>): string {
  return `${headOf('minutes', places)}transform:
  - dedupe: { key: [id], time: t, within: 1d }
  - window:
      id: per_minute
      time: t
      every: 1m
      lateness: 1d
      settle: 1s
      idle: 1d
      by: [campaign]
      select: { n: "count(*)", ids: "count(distinct id)" }
load:
  minutes: { type: postgres, url: ${JSON.stringify(places.postgres)}, table: minutes, input: per_minute }
`
}

function headOf(name: string, { brokers, topic, postgres, shared = true }: Omit<Places, 'clickhouse'>): string {
  return `version: 1
name: ${name}
until: forever
${shared ? `state: "${stateUrl(postgres)}"\n` : ''}extract:
  input: { type: kafka, brokers: "${brokers}", topics: ${topic} }
contract:
  columns:
    id: { type: bigint, required: true }
    t: { type: timestamp, required: true }
    campaign: varchar
resources: { threads: 1 }
`
}

function stateUrl(postgres: string): string {
  return `${postgres}?lease=${LEASE_MS / 1000}s`
}

function eventOf(id: number) {
  const time = START + Math.floor((id * 60_000) / PER_MINUTE)
  return { partition: id % PARTITIONS, value: textOf(id, time, `c${id % CAMPAIGNS}`) }
}

function textOf(id: number, time: number, campaign: string): string {
  return `{"id":${id},"t":"${new Date(time).toISOString().slice(0, -1)}","campaign":"${campaign}"}`
}

async function rowsOf(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

/** 0 where the table is not there yet. */
async function countOf(url: string): Promise<number> {
  const [found] = await rowsOf(url, "SELECT to_regclass('events') AS there")
  if (found?.['there'] === null) return 0
  return Number((await rowsOf(url, 'SELECT count(*) AS n FROM events'))[0]?.['n'])
}

async function inClickHouse(url: string): Promise<Record<string, number>> {
  const { username, password, pathname, origin } = new URL(url)
  const query = 'SELECT count() AS n, uniqExact(id) AS ids, sum(id) AS total FROM events FORMAT JSONEachRow'
  const answer = await fetch(`${origin}/?database=${pathname.slice(1)}&output_format_json_quote_64bit_integers=0`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` },
    body: query,
  })
  const text = await answer.text()
  if (!answer.ok) return { n: 0 } // no table yet
  return JSON.parse(text) as Record<string, number>
}
