/** A stream from Kafka into stores of several kinds: each of them, the broker and the network go away in turn, while events come. */
import { setTimeout as delay } from 'node:timers/promises'
import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import { Redis } from 'ioredis'
import type { Producer } from 'kafkajs'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { onClickHouse } from '../harness/clickhouse.ts'
import { until } from '../harness/daemons.ts'
import { duckdbRows } from '../harness/engine.ts'
import { kafkaClient } from '../harness/kafka-reader.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { call } from '../harness/opensearch.ts'
import type { ServerInstance } from '../harness/servers/core/instance.ts'
import { freePort } from '../harness/servers/core/ports.ts'
import { freshBucket, freshName } from '../harness/servers/fresh.ts'
import type { KafkaEndpoint } from '../harness/servers/kafka.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type ProxyForServer, proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'
import * as pairs from '../harness/stored-pairs.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const PARTITIONS = 3
const BATCH = LONG ? 100 : 20
const EVERY_MS = 100
/** How long a server that was killed is away, and how long the network is cut. */
const DEAD_MS = LONG ? 5000 : 100
const CUT_MS = LONG ? 30_000 : 500
const WITHIN_MS = LONG ? 300_000 : 100_000

interface Store {
  readonly name: string
  readonly options: Readonly<Record<string, unknown>>
  kill9(): Promise<void>
  restart(): Promise<void>
  /** How much is there, by an independent client: grows with each batch. */
  count(): Promise<number>
  /** What is there, as SQL that gives id and micros. */
  read(folder: string): Promise<string>
}

await serverSuite(
  'a stream through outages',
  LONG
    ? ['kafka', 'postgres', 'redis', 's3', 'clickhouse', 'opensearch', 'toxiproxy']
    : ['kafka', 'postgres', 'redis', 'toxiproxy'],
  ({ kafka, toxiproxy }) => {
    it(
      'goes on where a server was killed or the network was cut: each event once in each store',
      async () => {
        await using stack = new AsyncDisposableStack()
        const folder = temporaryFolder('outages')
        stack.defer(() => folder.remove())
        const network: ProxyForServer[] = []
        /** A way to a server that can be cut. */
        const via = async (url: string, port = 0): Promise<string> => {
          const proxy = stack.use(await proxyFor(toxiproxy, url, { port }))
          network.push(proxy)
          return proxy.url
        }
        const stores = [...(await openStores(stack, via))]
        // A broker tells its clients where to come to: a shared one cannot stand behind a proxy.
        const port = await freePort()
        const broker = LONG ? stack.use(await startPrivate('kafka', { advertisedPort: port })) : undefined
        const direct = broker?.endpoint.brokers ?? kafka.brokers
        const brokers = broker === undefined ? direct : await via(broker.endpoint.behindProxy, port)
        const topic = freshName('outages')
        await new KafkaWriter(direct).create(topic, { partitions: PARTITIONS })
        if (broker !== undefined) stores.push(kafkaStore(broker, brokers))
        const options = Object.fromEntries(stores.map((store) => [store.name, store.options]))
        const job = new SmallJob(folder.path, jobOf(brokers, topic, options))

        const traffic = await Traffic.start(direct, topic)
        const child = Promise.withResolvers<number>()
        let log = ''
        const ended = job.run([], {
          started: ({ pid = 0, stderr }) => {
            stderr?.on('data', (data: Buffer) => (log += data.toString()))
            child.resolve(pid)
          },
        })
        const counts = () => Promise.all(stores.map((store) => store.count().catch(() => 0)))
        /** Each store that is meant gets more than it had. */
        const moving = async (what: string, meant: (store: Store) => boolean = () => true) => {
          const before = await counts()
          return until(
            what,
            async () =>
              (await counts()).every((count, index) => count > (before[index] ?? 0) || !meant(stores[index] as Store)),
            WITHIN_MS,
          )
        }
        const resumed: string[] = []
        const healed = async (what: string, meant?: (store: Store) => boolean) => {
          const ms = await moving(`it goes on after ${what} was away`, meant)
          resumed.push(`${what} ${(ms / 1000).toFixed(1)} s`)
          await moving('all stores are served')
        }
        try {
          await moving('it has begun')
          for (const store of LONG ? stores : stores.slice(0, 1)) {
            await store.kill9()
            if (store.name !== 'kafka')
              await moving(`the others go on without ${store.name}`, (other) => other !== store)
            await delay(DEAD_MS)
            await store.restart()
            await healed(store.name, (other) => other === store)
          }
          const cuts = await Promise.all(
            network.flatMap((proxy) =>
              (['upstream', 'downstream'] as const).map((direction) =>
                proxy.add({ type: 'timeout', timeoutMs: 0 }, direction),
              ),
            ),
          )
          await delay(CUT_MS)
          await Promise.all(cuts.map((heal) => heal()))
          await healed('the network')
        } catch (error) {
          throw new Error(`${String(error)}\n${resumed.join(', ')}\n${log.slice(-8000)}`, { cause: error })
        } finally {
          await traffic.end()
        }
        const truth = await heldOf(await pairs.pairsOfKafka(direct, topic, folder.path))
        expect(truth['rows']).toBe(truth['ids'])
        const held = async (read: Store['read']): Promise<Record<string, unknown>> => {
          const to = temporaryFolder('held')
          const found = await read(to.path)
            .then(heldOf)
            .catch(() => ({}))
          to.remove()
          return found
        }
        for (const store of stores)
          await until(
            `${store.name} has all\n${log.slice(-4000)}`,
            async () => Number((await held(store.read))['ids'] ?? 0) >= Number(truth['ids']),
            WITHIN_MS,
          )
        process.kill(await child.promise, 'SIGTERM')
        const { code, ...result } = await ended
        const summary = result.json<RunSummary>()
        const { error, unaccounted } = summary
        expect({ code, error, unaccounted }, log.slice(-8000)).toEqual({ code: 0, unaccounted: 0 })
        for (const store of stores) expect(await held(store.read), store.name).toEqual(truth)
        console.info(`${truth['rows']} events; the first new rows after the heal: ${resumed.join(', ')}`)
      },
      LONG ? 1_800_000 : 240_000,
    )
  },
)

/** What is sent every 100 ms. Where the broker is away the client tries again, and the broker knows what it has. */
class Traffic {
  readonly #stop = new AbortController()
  #work: Promise<void> = Promise.resolve()

  static async start(brokers: string, topic: string): Promise<Traffic> {
    const retry = { retries: 1000, initialRetryTime: 100, maxRetryTime: 500 }
    const producer = kafkaClient(brokers, { retry }).producer({ idempotent: true, maxInFlightRequests: 1, retry })
    await producer.connect()
    const traffic = new Traffic()
    traffic.#work = traffic.#send(producer, topic)
    return traffic
  }

  async #send(producer: Producer, topic: string): Promise<void> {
    for (let id = 0; !this.#stop.signal.aborted; id += BATCH) {
      const messages = Array.from({ length: BATCH }, (_, index) => ({
        partition: (id + index) % PARTITIONS,
        value: `{"id":${id + index},"micros":${(id + index) * 1_000_003}}`,
      }))
      await producer.send({ topic, messages, acks: -1 })
      await delay(EVERY_MS)
    }
    await producer.disconnect()
  }

  async end(): Promise<void> {
    this.#stop.abort()
    await this.#work
  }
}

async function openStores(
  stack: AsyncDisposableStack,
  via: (url: string) => Promise<string>,
): Promise<readonly Store[]> {
  const stores: Store[] = []
  const postgres = stack.use(await startPrivate('postgres'))
  stores.push({
    name: 'postgres',
    options: { type: 'postgres', url: await via(postgres.endpoint.url), table: 'events' },
    ...killing(postgres),
    count: async () => {
      const client = new Client(postgres.endpoint.url)
      await client.connect()
      const { rows } = await client.query('SELECT count(*) AS n FROM events').finally(() => client.end())
      return Number(rows[0].n)
    },
    read: (to) => pairs.pairsOfPostgres(postgres.endpoint.url, 'events', to),
  })
  const redis = stack.use(await startPrivate('redis'))
  stores.push({
    name: 'redis',
    options: { type: 'redis', url: await via(redis.endpoint.url), prefix: 'e:', key: "'event:' || id" },
    ...killing(redis),
    count: async () => {
      const client = new Redis(redis.endpoint.url, { retryStrategy: null })
      client.on('error', () => undefined) // the command says so, too
      return client.dbsize().finally(() => client.disconnect())
    },
    read: (to) => pairs.pairsOfRedis(redis.endpoint.url, 'e:event:', to),
  })
  if (!LONG) return stores
  const s3 = stack.use(await startPrivate('s3'))
  const bucket = await freshBucket(s3.endpoint)
  const objects = s3Client(s3.endpoint)
  stack.defer(() => objects.destroy())
  const { url: endpoint, accessKeyId: access_key_id, secretAccessKey: secret_access_key } = s3.endpoint
  stores.push({
    name: 's3',
    options: {
      ...{ type: 's3', endpoint: await via(endpoint), access_key_id, secret_access_key, bucket: bucket.name },
      ...{ prefix: 'events', format: 'parquet' },
    },
    ...killing(s3),
    count: async () => {
      let objectsThere = 0
      let token: string | undefined
      do {
        const listed = await objects.send(
          new ListObjectsV2Command({
            Bucket: bucket.name,
            Prefix: 'events/',
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
        )
        objectsThere += listed.KeyCount ?? 0
        token = listed.NextContinuationToken
      } while (token !== undefined)
      return objectsThere
    },
    read: (to) => pairs.pairsOfS3(s3.endpoint, bucket.name, 'events', to),
  })
  const clickhouse = stack.use(await startPrivate('clickhouse'))
  const { url } = clickhouse.endpoint
  stores.push({
    name: 'clickhouse',
    options: { type: 'clickhouse', url: await via(url), table: 'events' },
    ...killing(clickhouse),
    count: async () => Number((await onClickHouse(url, 'SELECT count() AS n FROM events'))[0]?.['n']),
    read: (to) => pairs.pairsOfClickHouse(url, 'events', to),
  })
  const opensearch = stack.use(await startPrivate('opensearch'))
  stores.push({
    name: 'opensearch',
    options: { type: 'elasticsearch', url: await via(opensearch.endpoint.url), index: 'events' },
    ...killing(opensearch),
    count: async () => {
      await call(opensearch.endpoint.url, 'POST', 'events/_refresh')
      return (JSON.parse(await call(opensearch.endpoint.url, 'GET', 'events/_count')) as { count: number }).count
    },
    read: (to) => pairs.pairsOfOpenSearch(opensearch.endpoint.url, 'events', to),
  })
  return stores
}

/** The source lies on the same broker. */
function kafkaStore(broker: ServerInstance<KafkaEndpoint>, brokers: string): Store {
  const topic = freshName('sink')
  const direct = broker.endpoint.brokers
  return {
    name: 'kafka',
    options: { type: 'kafka', brokers, topic },
    ...killing(broker),
    count: () =>
      new KafkaWriter(direct).admin(async (admin) => {
        const offsets = await admin.fetchTopicOffsets(topic)
        return offsets.reduce((total, { high }) => total + Number(high), 0)
      }),
    read: (to) => pairs.pairsOfKafka(direct, topic, to),
  }
}

function killing(server: { kill9(): Promise<void>; restart(): Promise<void> }): Pick<Store, 'kill9' | 'restart'> {
  return { kill9: () => server.kill9(), restart: () => server.restart() }
}

async function heldOf(select: string): Promise<Record<string, unknown>> {
  const [found] = await duckdbRows(
    `SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, sum(micros)::VARCHAR AS micros FROM (${select})`,
  )
  return found ?? {}
}

function jobOf(brokers: string, topic: string, load: Readonly<Record<string, unknown>>): string {
  return `version: 1
name: rows
until: forever
extract:
  input: { type: kafka, brokers: "${brokers}", topics: ${topic} }
contract:
  columns: { id: { type: bigint, required: true }, micros: bigint }
load: ${JSON.stringify(load)}
resources: { threads: 1 }
`
}
