/**
 * Sends the events of ad-events.ts at a steady rate, and prints as JSON what must come of them. `produce-ads.ts BROKERS TOPIC RATE TOTAL SHIFT_MS CLOSE`; with
 * CLOSE `yes` each partition gets a record at the end which closes every window; it belongs to no campaign.
 */
import { KafkaWriter } from '../../test/harness/kafka-writer.ts'
import { AdEvents, PARTITIONS } from './ad-events.ts'
import { produceSteadily } from './steady.ts'

const [brokers = '', topic = '', rate = '0', total = '0', shiftMs = '0', close = 'no'] = process.argv.slice(2)
const events = new AdEvents(Number(shiftMs))
await produceSteadily({
  ...{ brokers, topic, partitions: PARTITIONS, rate: Number(rate), total: Number(total) },
  textOf: (nth, sentMs) => events.record(nth, sentMs),
})
if (close === 'yes') {
  const closing = Array.from({ length: PARTITIONS }, (_, partition) => ({
    partition,
    value: `{"event_id":${-1 - partition},"sent":${Date.now()},"event_time":"${new Date().toISOString()}","campaign_id":-1,"user_id":"","event_type":"end","cost":0}`,
  }))
  await new KafkaWriter(brokers).send(topic, closing)
}
process.stdout.write(JSON.stringify(events.truth))
