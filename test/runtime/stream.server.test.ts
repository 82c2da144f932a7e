/** A stream from Kafka: into two stores and through windows, while adflow is killed and a store is gone for a while. */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'pg'
import { expect, it, vi } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { freshClickHouseDatabase, freshDatabase, freshName } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const EVENTS = LONG ? 504_000 : 4_800
const BATCH = LONG ? 1_000 : 120
const KILLS = LONG ? 20 : 3
const PARTITIONS = 3
const CAMPAIGNS = 4
const START = Date.UTC(2026, 0, 5, 12)
/** Of the time of the events: so many of them are one minute. */
const PER_MINUTE = EVENTS / 20
const PATIENCE = { timeout: LONG ? 600_000 : 120_000, interval: 200 }

await serverSuite(
  'a stream from Kafka',
  ['kafka', 'postgres', 'clickhouse', 'toxiproxy'],
  ({ kafka, postgres, clickhouse, toxiproxy }) => {
    it(`${EVENTS} events through ${KILLS} kills: each once in each store, and each window once`, async () => {
      const folder = temporaryFolder('stream')
      await using database = await freshDatabase(postgres)
      await using tables = await freshClickHouseDatabase(clickhouse)
      await using proxy = await proxyFor(toxiproxy, database.url)
      const topic = freshName('stream')
      const writer = new KafkaWriter(kafka.brokers)
      await writer.create(topic, { partitions: PARTITIONS })
      const job = new SmallJob(folder.path, jobOf(kafka.brokers, topic, proxy.url, tables.url))

      const part = EVENTS / (KILLS + 1)
      const write = async (from: number) => {
        for (let id = from; id < from + part; id += BATCH) {
          await writer.send(
            topic,
            Array.from({ length: BATCH }, (_, index) => messageOf(id + index)),
          )
          await delay(20)
        }
      }

      const start = () => {
        const child = Promise.withResolvers<number>()
        const ended = job.run([], { started: ({ pid }) => child.resolve(pid ?? 0) })
        return { pid: child.promise, ended }
      }
      let run = start()
      for (let kill = 0; kill < KILLS; kill += 1) {
        const before = job.closedBatches()
        const writing = write(kill * part)
        await vi.waitFor(() => expect(job.closedBatches()).toBeGreaterThan(before + 2), PATIENCE)
        if (kill === 1) await proxy.down()
        if (kill === 2) await proxy.up()
        process.kill(await run.pid, 'SIGKILL')
        await Promise.all([run.ended, writing])
        run = start()
      }
      // Nothing is owed any more: told to stop in the middle of its work, it ends with 0.
      await vi.waitFor(async () => expect(await countOf(database.url, 'events')).toBe(KILLS * part), PATIENCE)
      const before = job.closedBatches()
      const writing = write(KILLS * part)
      await vi.waitFor(() => expect(job.closedBatches()).toBeGreaterThan(before), PATIENCE)
      process.kill(await run.pid, 'SIGTERM')
      const toldMs = Date.now()
      const [stopped] = await Promise.all([
        run.ended.then((result) => ({ ...result, ms: Date.now() - toldMs })),
        writing,
      ])
      expect(stopped.code).toBe(0)
      if (LONG) expect(stopped.ms).toBeLessThan(25_000)
      // Silence closes what is open; what comes then is late.
      job.put('job.yaml', jobOf(kafka.brokers, topic, proxy.url, tables.url).replace('idle: 1d', 'idle: 500ms'))
      run = start()
      const given = 'SELECT count(*)::int AS windows FROM minutes'
      const windows = 20 * CAMPAIGNS
      await vi.waitFor(async () => expect(await rowsOf(database.url, given)).toEqual([{ windows }]), PATIENCE)
      await writer.send(topic, [{ partition: 0, value: eventText(-1, START, 'late') }])
      await vi.waitFor(
        async () => expect(await rowsOf(database.url, given)).toEqual([{ windows: windows + 1 }]),
        PATIENCE,
      )
      await vi.waitFor(async () => expect(await inClickHouse(tables.url)).toMatchObject({ n: EVENTS + 1 }), PATIENCE)
      process.kill(await run.pid, 'SIGTERM')
      const { code, ...result } = await run.ended
      const summary = result.json<RunSummary>()
      expect({ code, error: summary.error, unaccounted: summary.unaccounted }).toEqual({ code: 0, unaccounted: 0 })
      // The run before had been told to stop: it has left nothing half done, of which something would come again.
      expect(Object.values(summary.stores).map(({ repeated }) => repeated)).toEqual([0, 0, 0])
      expect(summary.timing['checkpoint']?.batches).toBe(summary.batches)

      const ids = (EVENTS * (EVENTS - 1)) / 2 - 1
      expect(await inClickHouse(tables.url)).toEqual({ n: EVENTS + 1, ids: EVENTS + 1, total: ids })
      const inPostgres = 'SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(id) AS total FROM events'
      expect(await rowsOf(database.url, inPostgres)).toEqual([
        { n: `${EVENTS + 1}`, ids: `${EVENTS + 1}`, total: `${ids}` },
      ])
      const minutes = await rowsOf(
        database.url,
        'SELECT count(*) AS rows, sum(n)::bigint AS n, sum(ids)::bigint AS ids, count(DISTINCT (window_start, campaign)) AS windows FROM minutes WHERE NOT correction',
      )
      expect(minutes).toEqual([{ rows: `${windows}`, n: `${EVENTS}`, ids: `${EVENTS}`, windows: `${windows}` }])
      const late = await rowsOf(database.url, 'SELECT campaign, n::int, ids::int FROM minutes WHERE correction')
      expect(late).toEqual([{ campaign: 'late', n: 1, ids: 1 }])
      folder.remove()
    })
  },
)

function messageOf(id: number) {
  return {
    partition: id % PARTITIONS,
    value: eventText(id, START + Math.floor((id * 60_000) / PER_MINUTE), `c${id % CAMPAIGNS}`),
  }
}

function eventText(id: number, time: number, campaign: string): string {
  return `{"id":${id},"t":"${new Date(time).toISOString().slice(0, -1)}","campaign":"${campaign}"}`
}

function jobOf(brokers: string, topic: string, postgres: string, clickhouse: string): string {
  return `version: 1
name: rows
until: forever
extract:
  input: { type: kafka, brokers: "${brokers}", topics: ${topic} }
contract:
  columns:
    id: { type: bigint, required: true }
    t: { type: timestamp, required: true }
    campaign: varchar
validate:
  - { id: known, check: "campaign is not null" }
transform:
  - dedupe: { key: [id], time: t, within: 1d }
  - window:
      id: per_minute
      time: t
      every: 1m
      lateness: 10m
      settle: 2s
      idle: 1d
      by: [campaign]
      select: { n: "count(*)", ids: "count(distinct id)" }
load:
  postgres: { type: postgres, url: ${JSON.stringify(postgres)}, table: events }
  clickhouse: { type: clickhouse, url: ${JSON.stringify(clickhouse)}, table: events }
  minutes: { type: postgres, url: ${JSON.stringify(postgres)}, table: minutes, input: per_minute }
resources: { threads: 1 }
stream: { store_timeout: 5s }
`
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
async function countOf(url: string, table: string): Promise<number> {
  const [found] = await rowsOf(url, `SELECT to_regclass('${table}') AS there`)
  if (found?.['there'] === null) return 0
  return Number((await rowsOf(url, `SELECT count(*) AS n FROM ${table}`))[0]?.['n'])
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
