/** So many records a second into a topic, each made when it is due. What is overdue goes in several requests. */
import { setTimeout as sleep } from 'node:timers/promises'
import { kafkaClient } from '../../test/harness/kafka-reader.ts'

export interface Steady {
  readonly brokers: string
  readonly topic: string
  readonly partitions: number
  /** Records a second. */
  readonly rate: number
  readonly total: number
  /** Record `nth`, at its time of sending in milliseconds. It goes to partition `nth % partitions`. */
  readonly textOf: (nth: number, sentMs: number) => string
}

/** Between two requests. */
const EVERY_MS = 10
/** Records in a request. */
const MOST = 2000

export async function produceSteadily({ brokers, topic, partitions, rate, total, textOf }: Steady): Promise<void> {
  const producer = kafkaClient(brokers).producer({ idempotent: false })
  await producer.connect()
  const began = performance.now()
  const underWay = new Set<Promise<unknown>>()
  for (let nth = 0; nth < total; ) {
    const due = Math.min(total, nth + MOST, Math.floor(((performance.now() - began) * rate) / 1000))
    const now = Date.now()
    const messages = []
    for (; nth < due; nth += 1) messages.push({ partition: nth % partitions, value: textOf(nth, now) })
    if (messages.length > 0) {
      const sent: Promise<unknown> = producer.send({ topic, messages, acks: 1 }).finally(() => underWay.delete(sent))
      underWay.add(sent)
    }
    await sleep(EVERY_MS)
  }
  await Promise.all(underWay)
  await producer.disconnect()
}
