/** Topics as another client (kafkajs) fills them. */
import kafkajs, { type Admin, type Kafka, type Message } from 'kafkajs'
import { kafkaClient } from './kafka-reader.ts'

export const { CompressionTypes } = kafkajs

export class KafkaWriter {
  readonly #kafka: Kafka

  constructor(brokers: string) {
    this.#kafka = kafkaClient(brokers)
  }

  async create(topic: string, { partitions = 1, config = {} as Readonly<Record<string, string>> } = {}): Promise<void> {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    await this.admin((own) =>
      own.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }], waitForLeaders: true }),
    )
  }

  async admin<T>(work: (own: Admin) => Promise<T>): Promise<T> {
    const own = this.#kafka.admin()
    await own.connect()
    try {
      return await work(own)
    } finally {
      await own.disconnect()
    }
  }

  /** One request per `batch` messages: as many record batches. */
  async send(
    topic: string,
    messages: readonly Message[],
    { batch = messages.length, compression = CompressionTypes.None } = {},
  ): Promise<void> {
    const producer = this.#kafka.producer()
    await producer.connect()
    try {
      for (let from = 0; from < messages.length; from += batch)
        await producer.send({ topic, messages: messages.slice(from, from + batch), compression, acks: -1 })
    } finally {
      await producer.disconnect()
    }
  }

  /** In a transaction that is committed, aborted, or left open: then the return value ends it. */
  async transaction(
    topic: string,
    messages: readonly Message[],
    end: 'commit' | 'abort' | 'open',
  ): Promise<(how: 'commit' | 'abort') => Promise<void>> {
    const transactionalId = `writer-${Math.random()}`
    const producer = this.#kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    const transaction = await producer.transaction()
    await transaction.send({ topic, messages: [...messages], acks: -1 })
    const finish = async (how: 'commit' | 'abort') => {
      await transaction[how]()
      await producer.disconnect()
    }
    if (end !== 'open') await finish(end)
    return finish
  }
}
