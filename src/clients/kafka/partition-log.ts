/** One partition as a row of record batches, fetched a part ahead. */
import type { KafkaCluster, KafkaLibrary } from './cluster.ts'
import { kafkaErrorName } from './errors.ts'
import { type FetchOrder, fetchPartition } from './fetch.ts'
import { type LogBatch, logPart } from './log-batches.ts'
import { boundsOf } from './offsets.ts'
import { persistent } from './persistent.ts'
import { endMoved, recordsLost, topicChanged } from './source-mark.ts'
import { unpacked } from './unpack.ts'

export interface LogOptions extends Pick<FetchOrder, 'topic' | 'partition' | 'isolation'> {
  readonly lane: string
  /** By which the topic was found. */
  readonly topicId: string
  /** For people. */
  readonly origin: string
  readonly fetchBytes: number
  readonly maxBatchBytes: number
  readonly patienceMs: number
  readonly signal: AbortSignal
  /** So many bytes have come. */
  moved(bytes: number): void
}

interface Part {
  readonly from: bigint
  readonly batches: readonly LogBatch[]
  readonly next: bigint
}

/** The batches that count in a stretch of the log. */
export interface Stretch {
  /** The one in which the offset stands, or the first behind it; undefined: none of this stretch. */
  readonly batch: LogBatch | undefined
  /** Without a batch: how far the stretch goes. */
  readonly next: bigint
}

export class PartitionLog {
  readonly #cluster: KafkaCluster
  readonly #options: LogOptions
  #part: Part | undefined
  #ahead: { readonly from: bigint; readonly part: Promise<Part> } | undefined
  #open: { readonly batch: LogBatch; readonly records: Buffer } | undefined

  constructor(cluster: KafkaCluster, options: LogOptions) {
    this.#cluster = cluster
    this.#options = options
  }

  /** What is there from the offset on; nothing from `limit` on is fetched ahead. */
  async stretch(at: bigint, limit: bigint): Promise<Stretch> {
    const inHand = this.#part !== undefined && this.#part.from <= at && at < this.#part.next
    const part = inHand ? (this.#part as Part) : await this.#next(at)
    this.#part = part
    if (part.next < limit && this.#ahead?.from !== part.next) this.#fetchAhead(part.next)
    const batch = part.batches.find(({ last }) => last >= at)
    return { batch, next: part.next }
  }

  /** How far the log in hand has nothing from the offset on that counts. */
  emptyUntil(at: bigint): bigint {
    const part = this.#part
    if (part === undefined || part.from > at || part.next < at) return at
    const batch = part.batches.find(({ last }) => last >= at)
    return batch === undefined ? part.next : batch.base > at ? batch.base : at
  }

  async records(batch: LogBatch): Promise<Buffer> {
    if (this.#open?.batch !== batch) {
      const { maxBatchBytes, origin } = this.#options
      const library = await this.#cluster.library()
      this.#open = { batch, records: unpacked(batch, { maxBytes: maxBatchBytes, origin }, library) }
    }
    return this.#open.records
  }

  async #next(at: bigint): Promise<Part> {
    const ahead = this.#ahead
    this.#ahead = undefined
    this.#open = undefined
    return ahead?.from === at ? ahead.part : this.#fetch(at)
  }

  #fetchAhead(from: bigint): void {
    const part = this.#fetch(from)
    part.catch(() => undefined) // told when the part is asked for, or nobody does
    this.#ahead = { from, part }
  }

  async #fetch(offset: bigint): Promise<Part> {
    const { fetchBytes, signal, patienceMs } = this.#options
    const library = await this.#cluster.library()
    let empty = 0
    for (;;) {
      const answer = await persistent(
        async (again) => {
          await this.#find(again)
          return this.#answer(offset, fetchBytes)
        },
        { patienceMs, signal },
      )
      this.#options.moved(answer.bytes.length)
      const part = this.#partOf(answer, offset, library)
      if (part !== undefined) return part
      empty += 1
      if (empty > EMPTY_ANSWERS) throw new Error(`the broker gives nothing at offset ${offset}, though more is there`)
    }
  }

  #partOf(answer: Awaited<ReturnType<typeof fetchPartition>>, from: bigint, library: KafkaLibrary): Part | undefined {
    const { isolation, origin } = this.#options
    const { batches, next } = logPart(answer, { from, committed: isolation === 'read_committed', origin }, library)
    return next === undefined || next <= from ? undefined : { from, batches, next }
  }

  async #answer(offset: bigint, maxBytes: number) {
    const { topic, partition, isolation, lane } = this.#options
    try {
      return await fetchPartition(this.#cluster, { topic, partition, isolation, offset, maxBytes })
    } catch (error) {
      if (kafkaErrorName(error) !== 'OFFSET_OUT_OF_RANGE') throw error
      const bounds = (await boundsOf(this.#cluster, topic, isolation)).get(partition)
      if (bounds === undefined) throw error
      throw offset < bounds.start ? recordsLost(lane, offset, bounds.start) : endMoved(lane, offset, bounds.end)
    }
  }

  /** Who leads the partition; it must still be of the same topic. */
  async #find(again: boolean): Promise<void> {
    const { topic, topicId, lane } = this.#options
    if (again || this.#cluster.topicId(topic) === '') await this.#cluster.metadata([topic])
    const now = this.#cluster.topicId(topic)
    if (now !== topicId) throw topicChanged(lane, this.#part?.next ?? 0n, topicId, now)
  }
}

/** In a row: what is below the end of a partition is there, also where the leader has just moved. */
const EMPTY_ANSWERS = 20
