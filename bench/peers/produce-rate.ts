/** So many events a second into a topic, each with the time at which it was sent: `produce-rate.ts BROKERS TOPIC PARTITIONS RATE SECONDS`. */
import { produceSteadily } from './steady.ts'

const [brokers = '', topic = '', partitions = '1', rate = '1000', seconds = '10'] = process.argv.slice(2)
await produceSteadily({
  ...{ brokers, topic },
  partitions: Number(partitions),
  rate: Number(rate),
  total: Number(rate) * Number(seconds),
  textOf: eventText,
})

function eventText(id: number, sent: number): string {
  const campaign = `campaign-${id % 100}`
  return `{"id":${id},"sent":${sent},"event_time":"${new Date(sent).toISOString()}","campaign_id":"${campaign}","user_id":"user-${id % 9973}","event_type":"impression","cost":${(id % 1000) / 100}}`
}
