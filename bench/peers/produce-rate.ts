/** So many events a second into a topic, each with the time at which it was sent: `produce-rate.ts BROKERS TOPIC PARTITIONS RATE SECONDS`. */
import { setTimeout as sleep } from 'node:timers/promises'
import { kafkaClient } from '../../test/harness/kafka-reader.ts'

const [brokers = '', topic = '', partitions = '1', rate = '1000', seconds = '10'] = process.argv.slice(2)
/** Between two requests. */
const EVERY_MS = 10
/** Events in a request: what is overdue goes in several. */
const MOST = 2000

const producer = kafkaClient(brokers).producer({ idempotent: false })
await producer.connect()
const total = Number(rate) * Number(seconds)
const began = performance.now()
const underWay = new Set<Promise<unknown>>()
for (let id = 0; id < total; ) {
  const due = Math.min(total, id + MOST, Math.floor(((performance.now() - began) * Number(rate)) / 1000))
  const now = Date.now()
  const messages = []
  for (; id < due; id += 1) messages.push({ partition: id % Number(partitions), value: eventText(id, now) })
  if (messages.length > 0) {
    const sent: Promise<unknown> = producer.send({ topic, messages, acks: 1 }).finally(() => underWay.delete(sent))
    underWay.add(sent)
  }
  await sleep(EVERY_MS)
}
await Promise.all(underWay)
await producer.disconnect()

function eventText(id: number, sent: number): string {
  const campaign = `campaign-${id % 100}`
  return `{"id":${id},"sent":${sent},"event_time":"${new Date(sent).toISOString()}","campaign_id":"${campaign}","user_id":"user-${id % 9973}","event_type":"impression","cost":${(id % 1000) / 100}}`
}
