/**
 * One transaction with many records, by each client, in turn: what decision 016 was made by. Needs a broker: the harness of the
 * tests starts one. Records per second of the whole transaction, and CPU time of this process.
 */
import { Producer } from '@platformatic/kafka'
import { z } from 'zod'
import { KafkaCluster } from '../src/clients/kafka/cluster.ts'
import { partitionOf } from '../src/clients/kafka/murmur.ts'
import { connectionShape } from '../src/clients/kafka/options.ts'
import { TransactionalProducer } from '../src/clients/kafka/producer.ts'
import { RecordBatch } from '../src/clients/kafka/record-batch.ts'
import { kafkaClient } from '../test/harness/kafka-reader.ts'
import { freshTopic } from '../test/harness/servers/fresh.ts'
import { startPrivate } from '../test/harness/servers/private.ts'
import type { BenchOptions } from './run.ts'

export const defaultRows = 300_000

const PARTITIONS = 6
/** Records that are sent at once. */
const SENT = 3000
const VALUE = Buffer.from(JSON.stringify({ id: 1, text: 'x'.repeat(280) }))
const KEYS = Array.from({ length: 1000 }, (_, index) => Buffer.from(`key-${index}`))

type Case = (brokers: string, topic: string, rows: number) => Promise<void>

const CASES: Readonly<Record<string, Case>> = {
  async adflow(brokers, topic, rows) {
    const cluster = new KafkaCluster(z.object(connectionShape).parse({ brokers }), '.')
    const producer = new TransactionalProducer(cluster, topic, 60_000)
    await cluster.metadata([topic])
    await producer.init()
    const timestampMs = Date.now()
    for (const keys of parts(rows)) {
      const batches = new Map<number, RecordBatch>()
      for (const key of keys) {
        const partition = partitionOf(key, PARTITIONS)
        const batch = batches.get(partition) ?? new RecordBatch()
        batches.set(partition, batch)
        batch.add({ key, value: VALUE, headers: [], timestampMs })
      }
      await producer.send([{ topic, batches, compression: 'none' }])
    }
    await producer.end(true)
    await cluster.close()
  },

  async kafkajs(brokers, topic, rows) {
    const producer = kafkaClient(brokers).producer({ transactionalId: topic, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    const transaction = await producer.transaction()
    for (const keys of parts(rows))
      await transaction.send({ topic, acks: -1, messages: keys.map((key) => ({ key, value: VALUE })) })
    await transaction.commit()
    await producer.disconnect()
  },

  async platformatic(brokers, topic, rows) {
    const options = { clientId: 'bench', bootstrapBrokers: [brokers], transactionalId: topic, idempotent: true }
    const producer = new Producer({ ...options, retries: 10 })
    const transaction = await producer.beginTransaction({ producerId: -1n, producerEpoch: -1 })
    for (const keys of parts(rows))
      await transaction.send({ acks: -1, messages: keys.map((key) => ({ topic, key, value: VALUE })) })
    await transaction.commit()
    await producer.close()
  },
}

export async function bench({ rows, runs, only }: BenchOptions): Promise<void> {
  await using server = await startPrivate('kafka')
  const { brokers } = server.endpoint
  const rates = new Map<string, number[]>()
  for (let run = 0; run <= runs; run += 1)
    for (const [name, work] of Object.entries(CASES)) {
      if (only !== undefined && only !== name) continue
      await using topic = await freshTopic(server.endpoint, { partitions: PARTITIONS })
      const [before, began] = [process.cpuUsage(), performance.now()]
      await work(brokers, topic.name, rows)
      const seconds = (performance.now() - began) / 1000
      const { user, system } = process.cpuUsage(before)
      // The first round warms the broker up.
      if (run === 0) continue
      rates.set(name, [...(rates.get(name) ?? []), rows / seconds])
      process.stdout.write(
        `${name}: ${(rows / seconds / 1000).toFixed(0)} thousand records/s, ${((user + system) / 1e6).toFixed(1)} s CPU\n`,
      )
    }
  const median = (name: string) => (rates.get(name) ?? []).sort((a, b) => a - b)[Math.floor(runs / 2)] ?? Number.NaN
  for (const peer of ['kafkajs', 'platformatic'])
    process.stdout.write(`ratio kafka.${peer} ${(median('adflow') / median(peer)).toFixed(2)} vs ${peer}\n`)
}

function* parts(rows: number): Generator<readonly Buffer[]> {
  for (let from = 0; from < rows; from += SENT)
    yield Array.from(
      { length: Math.min(SENT, rows - from) },
      (_, index) => KEYS[(from + index) % KEYS.length] ?? Buffer.alloc(0),
    )
}
