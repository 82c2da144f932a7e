/** A stream from Kafka into stores of every kind: each of them, the broker and the network go away in turn and come back, while events come. */
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { freePort } from '../harness/servers/core/ports.ts'
import {
  freshBucket,
  freshClickHouseDatabase,
  freshDatabase,
  freshIndexes,
  freshName,
} from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type ProxyForServer, proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'
import * as pairs from '../harness/stored-pairs.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const PARTITIONS = 3
const EVENTS_A_SECOND = LONG ? 1000 : 400
const EVERY_MS = 100
/** How long a server that was killed is away, and how long the network is cut. */
const DEAD_MS = LONG ? 5000 : 200
const CUT_MS = LONG ? 30_000 : 1500
const WITHIN_MS = LONG ? 300_000 : 120_000

interface Server {
  kill9(): Promise<void>
  restart(): Promise<void>
}

interface Store {
  readonly server: Server
  readonly options: Readonly<Record<string, unknown>>
  /** By an independent client, as SQL that gives id and micros. */
  read(folder: string): Promise<string>
}

await serverSuite(
  'a stream through outages',
  LONG
    ? ['kafka', 'toxiproxy', 'clickhouse', 'opensearch', 'postgres', 'redis', 's3']
    : ['kafka', 'toxiproxy', 'postgres', 'redis', 's3'],
  ({ kafka, toxiproxy }) => {
    it(
      'goes on where it stood when a server was killed or the network was cut: each event once in each store',
      async () => {
        await using stack = new AsyncDisposableStack()
        const folder = temporaryFolder('outages')
        stack.defer(() => folder.remove())
        const proxies: ProxyForServer[] = []
        /** Another way to a server, which can be cut. */
        const via = async (url: string, port = 0): Promise<string> => {
          const proxy = stack.use(await proxyFor(toxiproxy, url, { port }))
          proxies.push(proxy)
          return proxy.url
        }
        // A broker tells its clients where to come to, so that a shared one cannot be behind a proxy.
        const broker = LONG ? stack.use(await startPrivate('kafka', { advertisedPort: await freePort() })) : undefined
        const direct = broker?.endpoint.brokers ?? kafka.brokers
        const brokers =
          broker === undefined ? kafka.brokers : await via(broker.endpoint.behindProxy, broker.endpoint.advertised)
        const topic = freshName('outages')
        const stores = await openStores(stack, via, direct)
        const writer = new KafkaWriter(direct)
        await writer.create(topic, { partitions: PARTITIONS })
        const job = new SmallJob(folder.path, jobOf(brokers, topic, stores))
        const traffic = new Traffic(writer, topic)
        const child = Promise.withResolvers<number>()
        const ended = job.run([], { started: ({ pid }) => child.resolve(pid ?? 0) })
        const pid = await child.promise

        const rowsIn = async (store: Store) => {
          const to = temporaryFolder('held')
          try {
            return Number((await duckdbRows(`SELECT count(*) AS n FROM (${await store.read(to.path)})`))[0]?.['n'])
          } catch {
            return 0 // nothing is there yet, or nobody answers
          } finally {
            to.remove()
          }
        }
        void [pid, ended, traffic, rowsIn, delay, WITHIN_MS, DEAD_MS, CUT_MS]
      },
      LONG ? 1_800_000 : 240_000,
    )
  },
)
