/**
 * Events of a topic, in windows of a minute by campaign with a count of distinct users, into a topic, exactly once on both sides: adflow against
 * Apache Flink SQL with two slots and checkpoints every two seconds. Flink is running and has done the same before; of adflow a whole process is
 * measured. The same rows must come out of both. Rate over rate, CPU time over CPU time, memory over memory: JobManager and TaskManager together.
 */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { finished } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { readTopic } from '../test/harness/kafka-reader.ts'
import { KafkaWriter } from '../test/harness/kafka-writer.ts'
import { javaOf } from '../test/harness/servers/core/java.ts'
import { kafkaJars } from '../test/harness/servers/kafka.ts'
import { startPrivate } from '../test/harness/servers/private.ts'
import { type Measured, measure, median, ratio } from './measure.ts'
import { Flink } from './peers/flink.ts'
import type { BenchOptions } from './run.ts'

export const defaultRows = 3_000_000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(tmpdir(), 'adflow-bench-window')
const PARTITIONS = 6
const CAMPAIGNS = 50
const USERS = 20_000
/** Events of a minute of event time. */
const PER_MINUTE = 50_000
/** No event is further behind than that. */
const DISORDER_MS = 5000
const START = Date.UTC(2026, 0, 5)
const END = '2026-06-01 00:00:00'
/** Of each partition one record, at the beginning: with it adflow has heard of all lanes, and need not wait for any. */
const FIRST_OFFSETS = `{ ${Array.from({ length: PARTITIONS }, (_, partition) => `events/${partition}: 1`).join(', ')} }`

export async function bench({ rows, runs, only }: BenchOptions): Promise<void> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  await using server = await startPrivate('kafka')
  const { brokers } = server.endpoint
  await produce(brokers, rows)
  const flink = only === 'adflow' ? undefined : await Flink.start()
  const ours: Measured[] = []
  const theirs: Measured[] = []
  let expected: readonly string[] | undefined
  try {
    for (let run = 0; run <= runs; run += 1) {
      const [own, other] = [`adflow-${run}`, `flink-${run}`]
      const contender = (end: string) => ({ name: 'adflow', argv: adflow(brokers, own, end), prepare: () => undefined })
      await measure(contender(FIRST_OFFSETS))
      const measured = await measure(contender('latest'))
      tell(run, 'adflow', measured)
      if (run > 0) ours.push(measured)
      const found = await told(brokers, own)
      if (flink !== undefined) {
        const peer = await byFlink(flink, brokers, other)
        tell(run, 'flink', peer)
        if (run > 0) theirs.push(peer)
        expected = await told(brokers, other)
      }
      expected ??= found
      if (found.length === 0 || JSON.stringify(found) !== JSON.stringify(expected))
        throw new Error(`the rows differ: ${found.length} of adflow, ${expected.length} expected`)
    }
  } finally {
    await flink?.end()
  }
  const rate = rows / median(ours.map(({ seconds }) => seconds)) / 1000
  process.stdout.write(`window: ${rate.toFixed(0)} thousand events/s, ${expected?.length} identical rows\n`)
  if (theirs.length > 0) {
    const vs = 'vs Flink SQL 2.3, 2 slots, warm\n'
    process.stdout.write(`ratio window.throughput ${(1 / ratio(ours, theirs)).toFixed(2)} ${vs}`)
    process.stdout.write(`ratio window.cpu ${ratio(ours, theirs, 'cpuSeconds').toFixed(2)} ${vs}`)
    process.stdout.write(`ratio window.memory ${ratio(ours, theirs, 'peakBytes').toFixed(2)} ${vs}`)
  }
  rmSync(folder, { recursive: true, force: true })
}

/** Events in disorder; in each partition one before them, and one behind them, from the end of time, which closes what is open. */
async function produce(brokers: string, rows: number): Promise<void> {
  const path = join(folder, 'events.ndjson')
  const file = createWriteStream(path)
  for (let id = 0; id < rows; id += 1) {
    const late = mixed(id, 1) % DISORDER_MS
    const at = new Date(START + Math.max(0, Math.floor((id * 60_000) / PER_MINUTE) - late))
    const time = at.toISOString().slice(0, 23).replace('T', ' ')
    const line = `{"event_id":${id},"campaign_id":${mixed(id, 2) % CAMPAIGNS},"user_id":${mixed(id, 3) % USERS},"event_time":"${time}","cost":"0.${String(mixed(id, 4) % 1_000_000).padStart(6, '0')}"}\n`
    if (!file.write(line)) await once(file, 'drain')
  }
  await finished(file.end())
  const writer = new KafkaWriter(brokers)
  await writer.create('events', { partitions: PARTITIONS })
  await eachPartition(writer, '2026-01-05 00:00:00')
  const [java, lib] = [await javaOf(17), await kafkaJars()]
  const peer = join(root, 'bench', 'peers', 'ProduceLines.java')
  execFileSync(join(dirname(java), 'javac'), ['-cp', `${lib}/*`, '-d', folder, peer])
  execFileSync(java, ['-cp', `${lib}/*:${folder}`, 'ProduceLines', brokers, 'events', path], { stdio: 'ignore' })
  rmSync(path)
  await eachPartition(writer, END)
}

async function eachPartition(writer: KafkaWriter, time: string): Promise<void> {
  const value = JSON.stringify({ event_id: -1, campaign_id: -1, user_id: 0, event_time: time, cost: '0' })
  for (let partition = 0; partition < PARTITIONS; partition += 1) await writer.send('events', [{ value, partition }])
}

/** A whole number below 2^31, the same for the same event. */
function mixed(id: number, salt: number): number {
  let state = Math.imul(id ^ (salt * 0x9e3779b1), 0x85ebca6b)
  state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35)
  return (state ^ (state >>> 16)) & 0x7fffffff
}

function adflow(brokers: string, topic: string, end: string): string[] {
  const file = join(folder, `${topic}.yaml`)
  writeFileSync(
    file,
    `version: 1
name: bench_window
extract: { events: { type: kafka, brokers: "${brokers}", topics: events, end: ${end} } }
contract:
  columns:
    event_id: { type: bigint, required: true }
    campaign_id: { type: bigint, required: true }
    user_id: { type: bigint, required: true }
    event_time: { type: timestamp, required: true }
    cost: { type: "decimal(18,6)", required: true }
transform:
  - window:
      id: minutes
      time: event_time
      every: 1m
      lateness: 5s
      settle: 0s
      idle: 1h
      by: [campaign_id]
      select: { events: count(*), users: count(distinct user_id), spend: sum(cost) }
load:
  windows: { type: kafka, input: minutes, brokers: "${brokers}", topic: ${topic}, partitions: ${PARTITIONS} }
resources: { memory_limit: 128MB, chunk: 16MB, threads: ${cpus().length}, parallel: ${PARTITIONS} }
`,
  )
  return [process.execPath, join(root, 'bin', 'run.js'), 'run', file, '--state-dir', join(folder, topic), '--quiet']
}

async function byFlink(flink: Flink, brokers: string, topic: string): Promise<Measured> {
  await new KafkaWriter(brokers).create(topic, { partitions: PARTITIONS })
  const cpuBefore = flink.cpuSeconds
  const source = topic.replaceAll('-', '_')
  await flink.sql(`CREATE TABLE events_${source} (
    event_id BIGINT, campaign_id BIGINT, user_id BIGINT, event_time TIMESTAMP(3), cost DECIMAL(18, 6),
    WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND
  ) WITH ('connector' = 'kafka', 'topic' = 'events', 'properties.bootstrap.servers' = '${brokers}', 'properties.group.id' = '${topic}',
    'properties.isolation.level' = 'read_committed', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json')`)
  await flink.sql(`CREATE TABLE windows_${source} (
    window_start TIMESTAMP(3), window_end TIMESTAMP(3), campaign_id BIGINT, events BIGINT, users BIGINT, spend DECIMAL(38, 6)
  ) WITH ('connector' = 'kafka', 'topic' = '${topic}', 'properties.bootstrap.servers' = '${brokers}', 'format' = 'json',
    'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '${topic}', 'properties.transaction.timeout.ms' = '600000')`)
  const began = performance.now()
  const job = await flink.sql(`INSERT INTO windows_${source}
    SELECT window_start, window_end, campaign_id, COUNT(*), COUNT(DISTINCT user_id), SUM(cost)
    FROM TABLE(TUMBLE(TABLE events_${source}, DESCRIPTOR(event_time), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, campaign_id`)
  await flink.finished(job)
  const seconds = (performance.now() - began) / 1000
  return { seconds, cpuSeconds: flink.cpuSeconds - cpuBefore, peakBytes: flink.peakBytes }
}

/** The committed windows of a topic, in order, written alike. */
async function told(brokers: string, topic: string): Promise<string[]> {
  const records = await readTopic(brokers, topic)
  return records
    .map(({ value }) => JSON.parse(String(value)) as Record<string, unknown>)
    .filter(({ campaign_id }) => campaign_id !== -1)
    .map(({ window_start, window_end, campaign_id, events, users, spend }) => {
      const at = (time: unknown) => new Date(`${String(time).replace(' ', 'T').replace(/Z$/, '')}Z`).toISOString()
      return JSON.stringify([at(window_start), at(window_end), campaign_id, events, users, Number(spend).toFixed(6)])
    })
    .sort()
}

function tell(run: number, name: string, { seconds, cpuSeconds, peakBytes }: Measured): void {
  const which = run === 0 ? 'warm-up' : `run ${run}`
  process.stderr.write(
    `${which}  ${name.padEnd(8)} ${seconds.toFixed(2)} s  ${cpuSeconds.toFixed(2)} CPU-s  ${(peakBytes / 2 ** 20).toFixed(0)} MiB\n`,
  )
}
