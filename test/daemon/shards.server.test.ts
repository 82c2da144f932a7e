/** A stream in shards: its partitions are shared by processes that come and go, and each event is loaded once. */
import { Client } from 'pg'
import { expect, it } from 'vitest'
import type { JobLine } from '../../src/daemon/face.ts'
import { DaemonSite, until } from '../harness/daemons.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { freshDatabase, freshName } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const PARTITIONS = 8
const KILLS = LONG ? 20 : 2
const BATCH = 400
const WITHIN_MS = 120_000

await serverSuite('a stream in shards', ['kafka', 'postgres'], ({ kafka, postgres }) => {
  it(`on one machine: ${KILLS} kills of a part, and each event is there once`, async () => {
    await using site = new DaemonSite()
    await using database = await freshDatabase(postgres)
    const topic = freshName('shards')
    const writer = new KafkaWriter(kafka.brokers)
    await writer.create(topic, { partitions: PARTITIONS })
    site.put('jobs/flow.yaml', jobOf(kafka.brokers, topic, database.url))
    let sent = 0
    const write = async (): Promise<number> => {
      const events = Array.from({ length: BATCH }, (_, index) => {
        const id = sent + index
        return { partition: id % PARTITIONS, value: `{"id":${id}}` }
      })
      await writer.send(topic, events, { once: true })
      sent += BATCH
      return sent
    }
    const loaded = async (wanted: number) =>
      until(`${wanted} are loaded`, async () => (await countOf(database.url)) >= wanted, WITHIN_MS)

    const daemon = site.start()
    await write()
    await loaded(sent)
    for (let kill = 0; kill < KILLS; kill += 1) {
      const writing = write()
      process.kill(site.pidOf('flow') ?? 0, 'SIGKILL')
      await writing
      await loaded(sent)
    }
    expect(await rowsOf(database.url, 'SELECT count(*) AS n, count(DISTINCT id) AS ids FROM events')).toEqual([
      { n: `${sent}`, ids: `${sent}` },
    ])
    await until('the parts say so', async () => {
      const { shards, lag } = await daemon.get<JobLine>('/api/v1/jobs/flow')
      return lag === 0 && shards.filter(({ live }) => live !== null).length === 2
    })
    const { shards } = await daemon.get<JobLine>('/api/v1/jobs/flow')
    expect(shards.map(({ shard }) => shard)).toEqual(['0/2', '1/2'])
    daemon.kill('SIGTERM')
    expect(await daemon.ended).toBe(0)
  })
})

function jobOf(brokers: string, topic: string, postgres: string): string {
  return `version: 1
name: flow
until: forever
extract:
  input: { type: kafka, brokers: "${brokers}", topics: ${topic} }
contract:
  columns: { id: { type: bigint, required: true } }
load:
  postgres: { type: postgres, url: ${JSON.stringify(postgres)}, table: events }
resources: { threads: 1 }
stream: { shards: 2 }
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
async function countOf(url: string): Promise<number> {
  const [found] = await rowsOf(url, "SELECT to_regclass('events') AS there")
  if (found?.['there'] === null) return 0
  return Number((await rowsOf(url, 'SELECT count(*) AS n FROM events'))[0]?.['n'])
}
