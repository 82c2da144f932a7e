/** Topics as another client (kafkajs) fills them. */
import { setTimeout as sleep } from 'node:timers/promises'
import kafkajs, { type Admin, type Kafka, type Message } from 'kafkajs'
import { kafkaClient } from './kafka-reader.ts'
import { createTopic, ledTopic } from './kafka-topic.ts'

export const { CompressionTypes } = kafkajs

export class KafkaWriter {
  readonly #kafka: Kafka

  constructor(brokers: string) {
    this.#kafka = kafkaClient(brokers)
  }

  async create(topic: string, { partitions = 1, config = {} as Readonly<Record<string, string>> } = {}): Promise<void> {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    await this.admin((own) => createTopic(own, { topic, numPartitions: partitions, configEntries }))
  }

  /** The first records go, as by retention: what is before these offsets. */
  async deleteBefore(topic: string, offsets: Readonly<Record<number, number>>): Promise<void> {
    const partitions = Object.entries(offsets).map(([partition, offset]) => ({
      partition: Number(partition),
      offset: String(offset),
    }))
    await this.admin(async (own) => {
      // Only so it knows who leads them.
      await own.fetchTopicOffsets(topic)
      await own.deleteTopicRecords({ topic, partitions })
    })
  }

  /** Made anew under the same name. */
  async recreate(topic: string): Promise<void> {
    await this.admin(async (own) => {
      await own.deleteTopics({ topics: [topic] })
      // The brokers forget the one and learn of the other in their own time.
      const anew = { topics: [{ topic, numPartitions: 1 }], waitForLeaders: false }
      while (!(await own.createTopics(anew).catch(() => false))) await sleep(20)
      await ledTopic(own, topic)
    })
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

  /** One request per `batch` messages: as many record batches. A partition that is not ready yet, as of a new topic, makes the client
   *  send the others' messages again: the broker knows them, for the producer is idempotent. */
  async send(
    topic: string,
    messages: readonly Message[],
    { batch = messages.length, compression = CompressionTypes.None } = {},
  ): Promise<void> {
    const producer = this.#kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
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
