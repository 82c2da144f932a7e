/**
 * A backlog of Kafka into a table of ClickHouse, by streams that go on for ever: rows per second from the start of the process until the last
 * row can be seen, rate over rate. adflow types every field, keeps two rules and loads each row exactly once; Benthos, built by the Go
 * toolchain, checks the same two rules, is at-least-once, and gets a tenth of the rows. `sql` is its output for ClickHouse, in batches of 5,000;
 * `http` posts lines of JSON in batches of 20,000.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { CompressionTypes, KafkaWriter } from '../test/harness/kafka-writer.ts'
import { startPrivate } from '../test/harness/servers/private.ts'
import { cpuOf, median } from './measure.ts'
import { benthos } from './peers/benthos/benthos.ts'
import { queryClickHouse } from './peers/clickhouse-query.ts'
import type { BenchOptions } from './run.ts'

export const defaultRows = 5_000_000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(tmpdir(), 'adflow-bench-stream')
const PARTITIONS = 6
/** Events in a request, of one partition. */
const SENT = 2000
/** Of the rows, what the slower one gets. */
const PEER_SHARE = 0.1
/** Longest wait for the last row. */
const PATIENCE_MS = 1_200_000

const TABLE = `CREATE TABLE events (id Int64, event_time DateTime64(3, 'UTC'), campaign_id String, user_id String, event_type String, cost Float64)
ENGINE = MergeTree ORDER BY tuple()`

interface Place {
  readonly brokers: string
  readonly url: string
  readonly native: string
}

interface Rate {
  readonly rowsPerSecond: number
  readonly cpuSeconds: number
}

export async function bench({ rows, runs, only }: BenchOptions): Promise<void> {
  const program = await benthos()
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  await using kafka = await startPrivate('kafka')
  await using clickhouse = await startPrivate('clickhouse')
  const place = { brokers: kafka.endpoint.brokers, url: clickhouse.endpoint.url, native: clickhouse.endpoint.native }
  const less = Math.max(1000, Math.floor((rows * PEER_SHARE) / 1000) * 1000)
  await fill(place.brokers, 'events', rows)
  await fill(place.brokers, 'less', less)
  const contenders: Readonly<Record<string, () => Promise<Rate>>> = {
    adflow: () => adflow(place, rows),
    sql: () => peer(program, place, less, sqlOutput(place)),
    http: () => peer(program, place, less, httpOutput(place)),
  }
  const found = new Map<string, Rate[]>()
  for (let run = 0; run < runs; run += 1)
    for (const [name, work] of Object.entries(contenders)) {
      if (only !== undefined && name !== 'adflow' && name !== only) continue
      const rate = await work()
      found.set(name, [...(found.get(name) ?? []), rate])
      process.stderr.write(
        `run ${run + 1}  ${name.padEnd(8)} ${Math.round(rate.rowsPerSecond)} rows/s, ${rate.cpuSeconds.toFixed(1)} CPU-s\n`,
      )
    }
  const rateOf = (name: string) => median((found.get(name) ?? []).map(({ rowsPerSecond }) => rowsPerSecond))
  for (const [name, all] of found) {
    const cpu = median(all.map(({ cpuSeconds }) => cpuSeconds)) / (name === 'adflow' ? rows : less)
    process.stdout.write(
      `rate  stream.${name} ${Math.round(rateOf(name) / 1000)} thousand rows/s, ${(cpu * 1e6).toFixed(1)} CPU-s per million\n`,
    )
    if (name !== 'adflow')
      process.stdout.write(`ratio stream.${name} ${(rateOf('adflow') / rateOf(name)).toFixed(1)} vs Benthos 4.27\n`)
  }
  rmSync(folder, { recursive: true, force: true })
}

async function fill(brokers: string, topic: string, rows: number): Promise<void> {
  const writer = new KafkaWriter(brokers)
  await writer.admin((own) =>
    own.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }], waitForLeaders: false }),
  )
  for (let from = 0; from < rows; from += SENT * 50)
    await Promise.all(
      Array.from({ length: 50 }, (_, index) => from + index * SENT)
        .filter((id) => id < rows)
        .map((id) => {
          const messages = Array.from({ length: Math.min(SENT, rows - id) }, (_, index) => ({
            partition: (id / SENT) % PARTITIONS,
            value: eventText(id + index),
          }))
          return writer.send(topic, messages, { compression: CompressionTypes.LZ4 })
        }),
    )
}

function eventText(id: number): string {
  const time = new Date(Date.UTC(2026, 0, 5) + id).toISOString()
  return `{"id":${id},"event_time":"${time}","campaign_id":"campaign-${id % 100}","user_id":"user-${id % 9973}","event_type":"impression","cost":${(id % 1000) / 100}}`
}

async function adflow(place: Place, rows: number): Promise<Rate> {
  const job = join(folder, 'job.yaml')
  const state = join(folder, 'state')
  rmSync(state, { recursive: true, force: true })
  await query(place, 'DROP TABLE IF EXISTS _adflow_batches SYNC')
  writeFileSync(
    job,
    `version: 1
name: bench_stream
until: forever
extract:
  events: { type: kafka, brokers: "${place.brokers}", topics: events }
contract:
  columns:
    id: { type: bigint, required: true }
    event_time: { type: timestamp, required: true }
    campaign_id: { type: varchar, required: true }
    user_id: { type: varchar, required: true }
    event_type: { type: varchar, required: true }
    cost: { type: double, required: true }
validate:
  - { id: known, check: "campaign_id <> ''" }
  - { id: paid, check: "cost >= 0" }
load:
  out: { type: clickhouse, url: ${JSON.stringify(place.url)}, table: events }
resources: { memory_limit: 512MB, threads: ${cpus().length} }
`,
  )
  await query(place, 'DROP TABLE IF EXISTS events SYNC')
  return timed(place, rows, [
    process.execPath,
    join(root, 'bin', 'run.js'),
    ...['run', job, '--state-dir', state, '--quiet'],
  ])
}

async function peer(program: string, place: Place, rows: number, output: string): Promise<Rate> {
  const config = join(folder, 'benthos.yaml')
  writeFileSync(
    config,
    `http: { enabled: false }
logger: { level: WARN }
input:
  kafka_franz:
    seed_brokers: [ "${place.brokers}" ]
    topics: [ less ]
    consumer_group: group-${Date.now()}
    start_from_oldest: true
    checkpoint_limit: 100000
pipeline:
  threads: ${cpus().length}
  processors:
    - mapping: |
        root = if this.campaign_id == "" || this.cost < 0 { deleted() }
${output}`,
  )
  await query(place, 'DROP TABLE IF EXISTS events SYNC')
  await query(place, TABLE)
  return timed(place, rows, [program, '-c', config])
}

function sqlOutput({ native, url }: Place): string {
  const { username, password } = new URL(url)
  return `output:
  sql_insert:
    driver: clickhouse
    dsn: clickhouse://${native}/default?username=${username}&password=${password}
    table: events
    columns: [ id, event_time, campaign_id, user_id, event_type, cost ]
    args_mapping: |
      root = [ this.id.int64(), this.event_time.ts_parse("2006-01-02T15:04:05.999Z07:00"), this.campaign_id, this.user_id, this.event_type, this.cost.number() ]
    max_in_flight: 8
    batching: { count: 5000, period: 200ms }
`
}

function httpOutput({ url }: Place): string {
  const { username, password, origin } = new URL(url)
  const statement = encodeURIComponent('INSERT INTO events FORMAT JSONEachRow')
  return `output:
  http_client:
    url: ${origin}/?date_time_input_format=best_effort&query=${statement}
    verb: POST
    basic_auth: { enabled: true, username: ${JSON.stringify(username)}, password: ${JSON.stringify(password)} }
    max_in_flight: 8
    batching: { count: 20000, period: 200ms, processors: [ { archive: { format: lines } } ] }
`
}

/** Starts the process, waits for the last row, and ends it. */
async function timed(place: Place, rows: number, [command = '', ...args]: readonly string[]): Promise<Rate> {
  const began = performance.now()
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const said: Buffer[] = []
  child.stderr.on('data', (data: Buffer) => said.push(data))
  const ended = new Promise((resolve) => child.once('close', resolve))
  try {
    for (let seen = 0; seen < rows; seen = await countOf(place)) {
      if (performance.now() - began > PATIENCE_MS || child.exitCode !== null)
        throw new Error(`${seen} of ${rows} rows: ${Buffer.concat(said).toString('utf8').slice(-2000)}`)
      await sleep(50)
    }
    return { rowsPerSecond: (rows * 1000) / (performance.now() - began), cpuSeconds: cpuOf(child.pid) }
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

async function countOf(place: Place): Promise<number> {
  return Number(await query(place, 'SELECT count() FROM events').catch(() => '0')) // no table yet
}

function query({ url }: Place, sql: string): Promise<string> {
  return queryClickHouse(url, sql)
}
