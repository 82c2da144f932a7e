import { Kafka, logLevel } from 'kafkajs'
import { expect, it } from 'vitest'
import { freePort } from './core/ports.ts'
import { freshTopic } from './fresh.ts'
import { startPrivate } from './private.ts'
import { serverSuite } from './suite.ts'
import { proxyFor } from './toxics.ts'

function connect(brokers: string): Kafka {
  return new Kafka({ brokers: [brokers], clientId: 'smoke', logLevel: logLevel.NOTHING })
}

await serverSuite('Kafka of the harness', ['kafka', 'toxiproxy'], ({ kafka, toxiproxy }) => {
  it('keeps what a transaction committed, and hides what it aborted', async () => {
    await using topic = await freshTopic(kafka, { partitions: 1 })
    const client = connect(kafka.brokers)
    const producer = client.producer({ transactionalId: topic.name, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (const [value, end] of [
      ['aborted', 'abort'],
      ['committed', 'commit'],
    ] as const) {
      const transaction = await producer.transaction()
      await transaction.send({ topic: topic.name, messages: [{ value }] })
      await transaction[end]()
    }
    await producer.disconnect()

    const consumer = client.consumer({ groupId: topic.name, readUncommitted: false })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic.name], fromBeginning: true })
    const first = new Promise<string>((resolve) => {
      void consumer.run({ eachMessage: async ({ message }) => resolve(String(message.value)) })
    })
    expect(await first).toBe('committed')
    await consumer.disconnect()
  })

  it('sends the clients of its second listener to the proxy', async () => {
    const advertisedPort = await freePort()
    await using server = await startPrivate('kafka', { advertisedPort })
    await using proxy = await proxyFor(toxiproxy, server.endpoint.behindProxy, { port: advertisedPort })
    const admin = connect(proxy.url).admin({ retry: { retries: 0 } })
    await admin.connect()
    const { brokers } = await admin.describeCluster()
    expect(brokers).toEqual([{ nodeId: 1, host: '127.0.0.1', port: advertisedPort }])
    await proxy.down()
    await expect(admin.listTopics()).rejects.toThrow()
    await admin.disconnect()
  })
})
