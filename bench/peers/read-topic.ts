/** Reads so many records of a topic, and does nothing with them: `read-topic.ts CLIENT BROKERS TOPIC ROWS`. */
import { randomUUID } from 'node:crypto'
import { Consumer } from '@platformatic/kafka'
import { kafkaClient } from '../../test/harness/kafka-reader.ts'

const [client = '', brokers = '', topic = '', rows = '0'] = process.argv.slice(2)
const groupId = randomUUID()
const { promise: all, resolve } = Promise.withResolvers<void>()
let read = 0
const count = (more: number) => {
  read += more
  if (read >= Number(rows)) resolve()
}

if (client === 'kafkajs') {
  const consumer = kafkaClient(brokers).consumer({ groupId, maxBytesPerPartition: 4 << 20 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommit: false, eachBatch: async ({ batch }) => count(batch.messages.length) })
  await all
} else {
  const consumer = new Consumer({ clientId: 'bench', bootstrapBrokers: brokers.split(','), groupId })
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false, maxBytes: 16 << 20 })
  stream.on('data', () => count(1))
  await all
}
// Leaving the group is no part of reading.
process.exit(0)
