/**
 * Reads a topic as it fills, `read_committed`, until it has so many records: `read-latency.ts BROKERS TOPIC COUNT WARM_MS`. Prints, as
 * JSON, how many milliseconds lay between `sent` of each record and its coming, without those that were sent in the first `WARM_MS`.
 */
import { randomUUID } from 'node:crypto'
import { kafkaClient } from '../../test/harness/kafka-reader.ts'
import { percentiles } from './child.ts'

const [brokers = '', topic = '', count = '0', warmMs = '0'] = process.argv.slice(2)
const consumer = kafkaClient(brokers).consumer({
  groupId: randomUUID(),
  readUncommitted: false,
  maxWaitTimeInMs: 100,
  minBytes: 1,
})
await consumer.connect()
await consumer.subscribe({ topics: [topic], fromBeginning: true })
const { promise: all, resolve } = Promise.withResolvers<void>()
const waits: number[] = []
const ids = new Set<number>()
let [read, first] = [0, Number.POSITIVE_INFINITY]
await consumer.run({
  autoCommit: false,
  eachBatch: async ({ batch }) => {
    const now = Date.now()
    for (const { value } of batch.messages) {
      const text = String(value)
      const sent = Number(/"sent":(\d+)/.exec(text)?.[1])
      ids.add(Number(/"id":(\d+)/.exec(text)?.[1]))
      first = Math.min(first, sent)
      read += 1
      if (sent >= first + Number(warmMs)) waits.push(now - sent)
    }
    if (read >= Number(count)) resolve()
  },
})
await all
process.stdout.write(`${JSON.stringify({ read, distinct: ids.size, measured: waits.length, ...percentiles(waits) })}\n`)
process.exit(0)
