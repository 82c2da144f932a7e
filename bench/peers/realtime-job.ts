/** The jobs of bench/realtime.ts. */
import { cpus } from 'node:os'
import type { S3Endpoint } from '../../test/harness/servers/core/s3.ts'
import { DIGEST, LATENESS_MS } from './ad-events.ts'

export interface Places {
  readonly brokers: string
  readonly topic: string
  readonly postgres: string
  readonly clickhouse: string
  readonly redis: string
  readonly s3: S3Endpoint
  readonly bucket: string
}

/** What every case begins with: types, two rules. */
function head({ brokers, topic }: Places, name: string): string {
  return `version: 1
name: bench_realtime_${name}
until: forever
extract:
  ads: { type: kafka, brokers: "${brokers}", topics: ${topic} }
contract:
  columns:
    event_id: { type: bigint, required: true }
    sent: { type: bigint, required: true }
    event_time: { type: timestamp, required: true }
    campaign_id: { type: bigint, required: true }
    user_id: varchar
    event_type: varchar
    cost: { type: "decimal(18,6)", required: true }
validate:
  - { id: known, check: "event_type <> ''" }
  - { id: paid, check: "cost >= 0" }
resources: { memory_limit: 512MB, threads: ${cpus().length} }
`
}

/** Each event once: who sends repeats within milliseconds. Ids are kept for two minutes, `within` and as much lateness, and then there are no more of them. */
const DEDUPE = '- dedupe: { key: [event_id], time: event_time, within: 1m }'

/** A window of a minute by campaign into all four stores. */
export function windowsJob(places: Places): string {
  return `${head(places, 'windows')}transform:
  ${DEDUPE}
  - window:
      id: minutes
      time: event_time
      every: 1m
      lateness: ${LATENESS_MS}ms
      settle: 2s
      by: [campaign_id]
      select:
        events: count(*)
        spend: sum(cost)
        ids: sum(event_id)
        digest: "sum(${DIGEST})"
load:
  postgres: { type: postgres, input: minutes, url: "${places.postgres}", table: windows }
  clickhouse: { type: clickhouse, input: minutes, url: "${places.clickhouse}", table: windows, order_by: [window_start, campaign_id], not_null: [window_start, campaign_id] }
  redis:
    type: redis
    input: minutes
    url: "${places.redis}"
    key: "'w:' || epoch_ms(window_start) || ':' || campaign_id"
    fields: [events, spend, ids, digest]
  s3: { input: minutes, ${s3Options(places)}, prefix: windows, partition: { minute: "epoch_ms(window_start)::varchar" } }
`
}

/** The events themselves into all four stores. */
export function eventsJob(places: Places): string {
  return `${head(places, 'events')}transform:
  ${DEDUPE}
load:
  postgres: { type: postgres, url: "${places.postgres}", table: events, indexes: [{ columns: [event_id] }] }
  clickhouse: { type: clickhouse, url: "${places.clickhouse}", table: events, order_by: [event_id], not_null: [event_id] }
  redis: { type: redis, url: "${places.redis}", as: stream, key: "'events'", fields: [event_id, sent, cost] }
  s3: { ${s3Options(places)}, prefix: events, partition: { slot: "(epoch_ms(event_time) // 10000)::varchar" } }
`
}

function s3Options({ s3, bucket }: Places): string {
  return `type: s3, bucket: ${bucket}, endpoint: "${s3.url}", region: ${s3.region}, access_key_id: ${s3.accessKeyId}, secret_access_key: ${s3.secretAccessKey}, create: missing, format: parquet`
}
