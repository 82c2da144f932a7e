/** Topics of Kafka: partitions are lanes, positions are offsets; record batches are decoded straight into chunks. */
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { diagnoseSchemas } from '../clients/avro/diagnose.ts'
import { AvroSchemas, AvroValues } from '../clients/avro/values.ts'
import { addressesOf, KafkaCluster } from '../clients/kafka/cluster.ts'
import { diagnoseKafkaSource } from '../clients/kafka/diagnose-source.ts'
import { discoverTopics } from '../clients/kafka/discover-source.ts'
import { follow } from '../clients/kafka/follow.ts'
import { GroupOffsets } from '../clients/kafka/group-offsets.ts'
import { boundedBy, hasWork, surveyed, toItsEnd } from '../clients/kafka/lane-work.ts'
import { connectionShape } from '../clients/kafka/options.ts'
import { type LaneOptions, type PartitionTask, readPartition } from '../clients/kafka/partition-lane.ts'
import { choiceOf, type SourceOptions, sourceOptions } from '../clients/kafka/source-options.ts'
import { findPartitions, type TopicChoice } from '../clients/kafka/source-topics.ts'
import { interleave } from '../clients/objects/interleave.ts'
import type {
  Chunk,
  Dataset,
  Extractor,
  ExtractorEnv,
  Gap,
  LanePosition,
  Positions,
  ReadContext,
} from '../core/contracts.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { AdflowError, type ErrorCode } from '../core/errors.ts'
import type { LaneSurvey } from '../core/lane-survey.ts'
import { ownsLane } from '../core/shard.ts'
import { PieceBuffers } from '../records/piece-buffers.ts'

export default defineExtractor({
  summary: 'Topics of Kafka: from where the last run ended up to now, each record once.',
  description: `Each partition is a lane, \`<topic>/<partition>\`; positions are offsets. A range of offsets gives the same bytes however often
it is read, so nothing is staged: record batches are decompressed and decoded straight into chunks. Positions are those of the checkpoint; with \`group\`
the offsets of a consumer group follow them, so that tools that watch lags (\`kafka-consumer-groups.sh --describe\`) see how far it has come. Nothing reads them back.

**What is read.** What is committed when the run begins, or up to \`end\`. Markers of transactions, and records of transactions
that were aborted, are passed over. A transaction that is still open ends the run there; the next one goes on. Partitions that are added are lanes from their first record on.

**Values.** One record is one row. JSON over several lines is put on one; its bytes in quarantine are the original ones.
An empty value is quarantined: it is no JSON. A record without value (a tombstone) is a row of NULLs: with \`fields: { deleted: tombstone }\`
it can be told, and with a required column it is quarantined. Key, headers, timestamp, partition and offset become columns by \`fields\`;
offsets are whole 64-bit numbers. Where a value has a field of the same name the record is quarantined: a key stands twice. A key or header that is not UTF-8, too, unless it is asked for as base64.

**Avro** (\`format: avro\`). The schema of the values stands in the job (\`schema\`), in a file beside it (\`schema_file\`), or in a schema registry (\`registry\`): then
each value begins with a zero byte and the id of the schema with which it was written, and what a schema refers to is fetched with it, once. Values become JSON of
the same names, and the contract says which of them are columns: fields that a later schema adds or lacks are what they are in JSON. Nothing is rounded: \`long\` keeps its 64 bits;
\`decimal\` is a text of digits, days, times and timestamps are texts in ISO 8601 (one that no calendar has stays a number), \`bytes\` and \`fixed\` are what a column of the type
\`blob\` takes (\`\\xDE\\xAD\`), \`uuid\`, \`enum\` and \`duration\` texts; of a union the value alone. A value without such a head, of an unknown id, of another type of schema, cut off or
longer than its schema says is quarantined; in quarantine its bytes are kept, of a value that could be read its JSON. A registry that does not answer is a gap (69).

**What is gone.** A position before the first record of a partition is a loss, never a silent skip: a gap with the exact range of
offsets, and exit 65. \`on_lost: continue\` goes on behind it. A topic that was deleted and made anew is known by its id, and its offsets are not
taken for those of the old one. A range that was planned before a crash must hold the same records when it is cut again: where compaction has
removed some meanwhile it is a gap (SOURCE_CHANGED). Of a compacted topic a run gets what is there when it reads: of each key the newest record for certain, older ones perhaps.

**Where it is quarantined.** \`line\` of a quarantined record is its offset.`,
  options: sourceOptions,
  silenceMs: ({ patience }) => Math.max(60_000, 2 * patience),
  example: {
    brokers: 'kafka-1:9092,kafka-2:9092',
    topics: 'ads.events',
    fields: { event_offset: 'offset', event_key: 'key', sent_at: 'timestamp' },
  },
  sharded: true,
  diagnose: (chosen, env) => {
    const cluster = diagnoseKafkaSource(chosen, choiceOf(chosen), env)
    return { ...cluster, findings: both(cluster.findings, diagnoseSchemas(chosen.avro, env)) }
  },
  discovery: discovery(z.object(connectionShape), discoverTopics),
  create: (chosen, env) => new KafkaExtractor(chosen, env),
})

async function* both<T>(first: AsyncIterable<T>, second: AsyncIterable<T>): AsyncGenerator<T> {
  yield* first
  yield* second
}

/** Where nobody says how often. */
const LOOK_EVERY_MS = 100

class KafkaExtractor implements Extractor {
  readonly replayable = true
  readonly #options: SourceOptions
  readonly #env: ExtractorEnv
  readonly #choice: TopicChoice
  readonly #cluster: KafkaCluster
  readonly #place: string
  readonly #schemas: AvroSchemas | undefined
  readonly #group: GroupOffsets | undefined
  readonly #buffers = new PieceBuffers()
  readonly #toldGaps = new Set<string>()
  /** Of the pass that goes on. */
  #bounds: ReadonlyMap<string, PartitionTask> = new Map()
  /** Every lane was found when they were last looked for. */
  #complete = false

  constructor(chosen: SourceOptions, env: ExtractorEnv) {
    this.#options = chosen
    this.#env = env
    this.#choice = { ...choiceOf(chosen), owns: (lane) => ownsLane(env.shard, lane) }
    this.#cluster = new KafkaCluster(chosen, env.baseDir)
    this.#schemas = chosen.avro === undefined ? undefined : new AvroSchemas(chosen.avro, env.baseDir, env.hosts)
    this.#group = chosen.group === undefined ? undefined : new GroupOffsets(this.#cluster, chosen.group, env.log)
    const [first] = addressesOf(chosen)
    this.#place = `kafka://${first?.host}:${first?.port}`
  }

  dataset(): Dataset {
    const { topics, pattern } = this.#choice
    return { namespace: this.#place, name: pattern === undefined ? topics.join(',') : pattern.source }
  }

  async *read(context: ReadContext): AsyncGenerator<Chunk | Gap> {
    const positions = { ...context.from }
    let planned = context.planned
    while (!context.signal.aborted) {
      yield* this.#taken(this.#pass({ ...context, from: positions, planned }), positions, context)
      if (context.until !== 'forever') return
      planned = []
      const everyMs = this.#options.poll ?? context.flushMs ?? LOOK_EVERY_MS
      const tasks = [...this.#bounds.values()]
      if (this.#options.end === 'latest' && this.#complete && tasks.length > 0) {
        const room = context.room ?? (() => Promise.resolve())
        const seen = (grown: readonly PartitionTask[]) => this.#saw(grown, positions, context)
        const news = { tasks, positions, lane: this.#laneOptions(context), everyMs, room, seen }
        yield* this.#taken(follow(this.#cluster, news), positions, context)
      } else await delay(everyMs, undefined, { signal: context.signal }).catch(() => undefined) // aborted: the loop ends
    }
  }

  /** Keeps `positions` up to date, and leaves out what was told before. */
  async *#taken(
    items: AsyncIterable<Chunk | Gap>,
    positions: Record<string, LanePosition>,
    context: ReadContext,
  ): AsyncGenerator<Chunk | Gap> {
    for await (const item of items) {
      if ('gap' in item && !this.#isNews(item, context)) continue
      if (!('gap' in item)) this.#took(item, positions, context)
      yield item
    }
  }

  #saw(tasks: readonly PartitionTask[], positions: Positions, { watch }: ReadContext): void {
    this.#bounds = new Map(tasks.map((task) => [task.lane, task]))
    const left = this.#left(positions)
    watch?.behind?.(left)
    if (left === 0 && this.#complete) watch?.empty?.(Date.now())
  }

  #took({ range, mark }: Chunk, positions: Record<string, LanePosition>, { watch }: ReadContext): void {
    positions[range.lane] = { at: range.to, ...(mark === undefined ? {} : { mark }) }
    watch?.behind?.(this.#left(positions))
  }

  #left(positions: Positions): number {
    let left = 0
    for (const [lane, { begin, stop }] of this.#bounds) {
      const at = BigInt(positions[lane]?.at ?? 0)
      left += Number(at > 0n ? stop - at : stop - begin)
    }
    return Math.max(0, left)
  }

  async survey(from: Positions): Promise<readonly LaneSurvey[]> {
    const patience = { patienceMs: this.#options.patience, signal: new AbortController().signal }
    const { tasks, gaps } = await findPartitions(
      this.#cluster,
      this.#choice,
      { from, planned: [] },
      this.#place,
      patience,
    )
    const [gap] = gaps
    if (tasks.length === 0 && gap !== undefined) throw new AdflowError(gap.code as ErrorCode, gap.message)
    return tasks.map((task) => surveyed(task, this.#place))
  }

  async commit(positions: Positions): Promise<void> {
    this.#group?.tell(positions)
  }

  renew(): void {
    this.#cluster.disconnect()
  }

  async close(): Promise<void> {
    await this.#group?.close()
    await this.#cluster.close()
    await this.#schemas?.close()
  }

  /** Up to what is there now, once. */
  async *#pass(context: ReadContext): AsyncGenerator<Chunk | Gap> {
    const { signal, until, parallel } = context
    const patience = { patienceMs: this.#options.patience, signal }
    const { tasks, gaps } = await findPartitions(this.#cluster, this.#choice, context, this.#place, patience)
    this.#complete = gaps.length === 0
    yield* gaps
    const lane = this.#laneOptions(context)
    const bounded = tasks.map((task) => boundedBy(task, until))
    this.#saw(bounded, context.from, context)
    const ended = (name: string) => this.#ended(name, context)
    const missing = new Set(gaps.map(({ gap }) => gap.lane))
    for (const name of this.#named) if (!missing.has(name)) ended(name)
    for (const task of bounded) if (!hasWork(task)) ended(task.lane)
    const sources = bounded
      .filter((task) => hasWork(task))
      .map((task) => () => toItsEnd(task.lane, readPartition(this.#cluster, task, lane), { signal, ended }))
    yield* interleave(sources, parallel, signal, async (item) => {
      if (!('gap' in item)) await item.release()
    })
  }

  /** By which gaps go that are of no partition. */
  get #named(): readonly string[] {
    const { topics, pattern } = this.#choice
    return ['*', ...topics, ...(pattern === undefined ? [] : [pattern.source])]
  }

  /** It has no gap: the same one later is another. */
  #ended(lane: string, { watch }: ReadContext): void {
    for (const news of [...this.#toldGaps]) if ((JSON.parse(news) as [string])[0] === lane) this.#toldGaps.delete(news)
    watch?.ended(lane)
  }

  #laneOptions({ chunkBytes, maxRecordBytes, signal, watch }: ReadContext): LaneOptions {
    const { isolation, format, fields, tombstones, on_lost, fetch_bytes, max_batch, patience } = this.#options
    return {
      ...{ place: this.#place, chunkDir: this.#env.chunkDir, chunkBytes, maxRecordBytes, signal },
      ...{
        isolation,
        type: format,
        csv: this.#options.csv,
        fields,
        tombstones,
        onLost: on_lost,
        buffers: this.#buffers,
      },
      ...{ fetchBytes: fetch_bytes, maxBatchBytes: max_batch, patienceMs: patience },
      avro: this.#schemas === undefined ? undefined : new AvroValues(this.#schemas, maxRecordBytes, signal),
      moved: (bytes) => watch?.moved(bytes),
    }
  }

  /** A job that runs for ever looks again and again: each gap is told once, until it changes. */
  #isNews({ gap, code, message }: Gap, context: ReadContext): boolean {
    const key = JSON.stringify([gap.lane, gap.from, code, message])
    if (context.until === 'forever' && this.#toldGaps.has(key)) return false
    this.#toldGaps.add(key)
    return true
  }
}
