/** Topics as another client (kafkajs) sees them. */
import { createRequire } from 'node:module'
import { compressionsAlgorithms } from '@platformatic/kafka'
import kafkajs, { type Kafka, type KafkaConfig, type KafkaMessage } from 'kafkajs'
import { freshName } from './servers/fresh.ts'

export type ReadRecord = Pick<KafkaMessage, 'key' | 'value' | 'timestamp'> & {
  readonly partition: number
  readonly offset: string
  /** As text. */
  readonly headers: Readonly<Record<string, string>>
}

/** A record that stands behind all others of its partition, and is not told. */
const END = 'end-of-test'

const { CompressionCodecs, CompressionTypes, logLevel } = kafkajs

/** kafkajs has gzip alone. The broker, too, reads what it is given before it takes it. */
const { lz4, snappy, zstd } = compressionsAlgorithms
for (const [type, algorithm] of [
  [CompressionTypes.Snappy, snappy],
  [CompressionTypes.LZ4, lz4],
  [CompressionTypes.ZSTD, zstd],
] as const)
  (CompressionCodecs as Record<string, unknown>)[type] = () => ({
    compress: async ({ buffer }: { buffer: Buffer }) => algorithm.compressSync(buffer),
    decompress: async (bytes: Buffer) => algorithm.decompressSync(bytes),
  })

/**
 * kafkajs 2.2.4, which sees no releases any more, waits until -1 after the epoch where nothing holds it up, and Node.js warns of such a wait from 22 on, in
 * each run of these tests. It waits for a millisecond instead, which is what Node.js makes of it.
 */
interface RequestQueue {
  throttledUntil: number
  scheduleCheckPendingRequests(): void
}
const { prototype: queue } = createRequire(import.meta.url)('kafkajs/src/network/requestQueue') as {
  readonly prototype: RequestQueue
}
const { scheduleCheckPendingRequests: schedule } = queue
queue.scheduleCheckPendingRequests = function (this: RequestQueue) {
  const until = this.throttledUntil
  this.throttledUntil = Math.max(until, Date.now() + 1)
  schedule.call(this)
  this.throttledUntil = until
}

export function kafkaClient(brokers: string, config: Partial<KafkaConfig> = {}): Kafka {
  return new kafkajs.Kafka({
    brokers: brokers.split(','),
    clientId: 'adflow-test',
    logLevel: logLevel.NOTHING,
    ...config,
  })
}

/** Everything that is committed, in the order of each partition. A topic that is not there has nothing. */
export async function readTopic(brokers: string, topic: string): Promise<readonly ReadRecord[]> {
  const kafka = kafkaClient(brokers)
  const end = freshName(END)
  const partitions = await markEnds(kafka, topic, end)
  if (partitions === 0) return []
  const consumer = kafka.consumer({ groupId: end, readUncommitted: false, maxWaitTimeInMs: 100 })
  const found: ReadRecord[] = []
  try {
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await new Promise<void>((resolve, reject) => {
      let ended = 0
      consumer.on('consumer.crash', ({ payload }) => payload.restart || reject(payload.error))
      const run = consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch }) => {
          for (const { key, value, headers = {}, offset, timestamp } of batch.messages) {
            if (String(key) === end) ended += 1
            if (String(key).startsWith(END)) continue
            const texts = Object.entries(headers).map(([name, own]) => [name, String(own)])
            const { partition } = batch
            found.push({ key, value, timestamp, partition, offset, headers: Object.fromEntries(texts) })
          }
          if (ended === partitions) resolve()
        },
      })
      // What it may try again it does, and says so as a crash.
      run.catch((error: { retriable?: boolean }) => error.retriable || reject(error))
    })
  } finally {
    await consumer.disconnect()
  }
  return found
}

/** Partitions of the topic, each with a mark at its end; 0: there is no such topic. */
async function markEnds(kafka: Kafka, topic: string, end: string): Promise<number> {
  const admin = kafka.admin()
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  try {
    await admin.connect()
    if (!(await admin.listTopics()).includes(topic)) return 0
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    const partitions = topics[0]?.partitions ?? []
    await producer.connect()
    const messages = partitions.map(({ partitionId }) => ({ key: end, value: '', partition: partitionId }))
    await producer.send({ topic, messages, acks: -1 })
    return partitions.length
  } finally {
    await Promise.all([admin.disconnect(), producer.disconnect()])
  }
}
