/**
 * How long an event is on its way. `kafka`: a stateless job from a topic into a topic, exactly once, 20,000 events a second, from the call of the
 * producer to a consumer that reads what is committed. `--rows` is the number of events.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KafkaWriter } from '../test/harness/kafka-writer.ts'
import { startPrivate } from '../test/harness/servers/private.ts'
import { cpuOf, peakOf } from './measure.ts'
import { type Percentiles, peer, startJob, tellPhases } from './peers/child.ts'
import type { BenchOptions } from './run.ts'

const RATE = 20_000
const PARTITIONS = 4
const WARM_MS = 5_000

export const defaultRows = RATE * 30

interface Waits extends Percentiles {
  readonly read: number
  readonly distinct: number
}

export async function bench({ rows, runs }: BenchOptions): Promise<void> {
  await using server = await startPrivate('kafka')
  const { brokers } = server.endpoint
  for (let run = 0; run < runs; run += 1) {
    const { waits, summary, cpuSeconds, peakBytes } = await once(brokers, `events${run}`, rows)
    if (waits.distinct !== rows || waits.read !== rows)
      throw new Error(`${waits.read} records, ${waits.distinct} events`)
    const { p50, p95, p99, max } = waits
    process.stdout.write(
      `latency kafka p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms, max ${max} ms; ${rows} events, each once, at ${RATE}/s; ${cpuSeconds.toFixed(1)} CPU-s of ${(rows / RATE).toFixed(0)} s, ${(peakBytes / 2 ** 20).toFixed(0)} MiB\n`,
    )
    tellPhases(summary)
  }
}

async function once(brokers: string, topic: string, rows: number) {
  const folder = join(tmpdir(), 'adflow-bench-latency')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const writer = new KafkaWriter(brokers)
  const topics = [topic, `${topic}-out`].map((name) => ({ topic: name, numPartitions: PARTITIONS }))
  // Clients ask again until the brokers know it.
  await writer.admin((own) => own.createTopics({ topics, waitForLeaders: false }))
  writeFileSync(join(folder, 'job.yaml'), jobOf(brokers, topic))
  const job = startJob(join(folder, 'job.yaml'), join(folder, 'state'))
  const over = new AbortController()
  try {
    const [waits] = await Promise.all([
      peer(over.signal, 'read-latency.ts', brokers, `${topic}-out`, String(rows), String(WARM_MS)),
      peer(over.signal, 'produce-rate.ts', brokers, topic, String(PARTITIONS), String(RATE), String(rows / RATE)),
    ])
    const [cpuSeconds, peakBytes] = [cpuOf(job.process.pid), peakOf(job.process.pid)]
    const summary = await job.stop()
    return { waits: JSON.parse(waits) as Waits, summary, cpuSeconds, peakBytes }
  } finally {
    over.abort()
    job.process.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}

function jobOf(brokers: string, topic: string): string {
  return `version: 1
name: bench_latency
until: forever
extract:
  events: { type: kafka, brokers: "${brokers}", topics: ${topic} }
contract:
  columns:
    id: { type: bigint, required: true }
    sent: bigint
    event_time: timestamp
    campaign_id: varchar
    user_id: varchar
    event_type: varchar
    cost: decimal(18,6)
validate:
  - { id: known, check: "campaign_id is not null" }
  - { id: paid, check: "cost >= 0" }
load:
  out: { type: kafka, brokers: "${brokers}", topic: ${topic}-out, key: campaign_id }
`
}
