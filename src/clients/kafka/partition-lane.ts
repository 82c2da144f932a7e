/** Reads one partition: planned ranges first and exactly, then on to its end. What cannot be read is a gap, never a throw. */
import { rm } from 'node:fs/promises'
import type { Chunk, Gap, LanePosition, PlannedRange } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { comparePositions } from '../../core/positions.ts'
import type { PieceBuffers } from '../../records/piece-buffers.ts'
import { ChunkLines, type LineFormat, type WrittenLines } from './chunk-lines.ts'
import type { KafkaCluster } from './cluster.ts'
import { damaged } from './log-batches.ts'
import type { Bounds } from './offsets.ts'
import { type LogOptions, PartitionLog } from './partition-log.ts'
import { explainSource } from './source-errors.ts'
import { endMoved, markText, parseSourceMark, rangeChanged, recordsLost, topicChanged } from './source-mark.ts'

export interface PartitionTask extends Bounds {
  readonly lane: string
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly position: LanePosition | undefined
  /** Of this lane, in any order. */
  readonly planned: readonly PlannedRange[]
  /** Where a lane without a position begins. */
  readonly begin: bigint
  /** Stop there. */
  readonly stop: bigint
}

export interface LaneOptions
  extends LineFormat,
    Pick<LogOptions, 'isolation' | 'fetchBytes' | 'maxBatchBytes' | 'patienceMs' | 'signal'> {
  /** Of the cluster, for people. */
  readonly place: string
  readonly chunkDir: string
  readonly chunkBytes: number
  readonly maxRecordBytes: number
  readonly onLost: 'fail' | 'continue'
  readonly buffers: PieceBuffers
  /** So many bytes have come. */
  moved(bytes: number): void
}

interface Cut {
  readonly to: bigint
  readonly lines: WrittenLines
}

export async function* readPartition(
  cluster: KafkaCluster,
  task: PartitionTask,
  options: LaneOptions,
): AsyncGenerator<Chunk | Gap> {
  const reader = new PartitionReader(cluster, task, options)
  try {
    yield* reader.read()
  } catch (error) {
    if (options.signal.aborted) return
    const fault = explainSource(error, `read ${reader.origin}`)
    if (!fault.code.startsWith('SOURCE_')) throw fault
    yield gapOf(task.lane, reader.origin, reader.at, fault)
  }
}

export function gapOf(lane: string, origin: string, at: bigint | string, error: AdflowError): Gap {
  const message = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`
  const lost = error.details?.['lost'] as { from: string; to: string } | undefined
  return { gap: lost === undefined ? { lane, from: String(at) } : { lane, ...lost }, origin, code: error.code, message }
}

class PartitionReader {
  readonly origin: string
  /** How far the lane was handed out. */
  at: bigint
  readonly #task: PartitionTask
  readonly #options: LaneOptions
  readonly #log: PartitionLog

  constructor(cluster: KafkaCluster, task: PartitionTask, options: LaneOptions) {
    const { lane, topic, topicId, partition, position } = task
    this.origin = `${options.place}/${lane}`
    this.at = BigInt(position?.at ?? 0)
    this.#task = task
    this.#options = options
    const { isolation, fetchBytes, maxBatchBytes, patienceMs, signal } = options
    const limits = { isolation, fetchBytes, maxBatchBytes, patienceMs, signal, moved: options.moved.bind(options) }
    this.#log = new PartitionLog(cluster, { lane, topic, topicId, partition, origin: this.origin, ...limits })
  }

  async *read(): AsyncGenerator<Chunk | Gap> {
    this.#requireTopic()
    const { lane, planned, stop, start, end } = this.#task
    for (const range of [...planned].sort((a, b) => comparePositions(a.from, b.from))) yield await this.#planned(range)
    const fresh = this.at === 0n
    if (!fresh && this.at > end) throw endMoved(lane, this.at, end)
    let begin = fresh ? this.#task.begin : this.at
    if (begin < start && this.at < stop) {
      if (this.#options.onLost === 'fail') throw recordsLost(lane, begin, start)
      yield gapOf(lane, this.origin, begin, recordsLost(lane, begin, start))
      begin = start
    }
    // A lane that begins at its end has a position from now on: what comes next is not passed over.
    if (fresh && begin === stop && begin > 0n) yield await this.#chunk(await this.#cut(begin, stop, true), begin)
    while (this.at < stop && begin < stop) {
      yield await this.#chunk(await this.#cut(begin, stop, false), begin)
      begin = this.at
    }
  }

  #requireTopic(): void {
    const { lane, position, planned, topicId } = this.#task
    for (const mark of [position?.mark, ...planned.map((range) => range.mark)]) {
      const known = parseSourceMark(mark)
      if (known !== undefined && known.topic !== topicId) throw topicChanged(lane, this.at, known.topic, topicId)
    }
  }

  /** As it was: a store may have it already. */
  async #planned(range: PlannedRange): Promise<Chunk> {
    const { lane, start, begin: configured } = this.#task
    const [from, to] = [BigInt(range.from), BigInt(range.to)]
    const found = parseSourceMark(range.mark)
    const mark = found?.from === range.from && found.to === range.to ? found : undefined
    this.at = from
    // Without its mark nobody knows what the first range left out.
    const begin = mark === undefined && from === 0n ? configured : BigInt(mark?.begin ?? from)
    if (begin < start && begin < to) throw recordsLost(lane, begin, least(start, to), range.to)
    if (to > this.#task.end) throw endMoved(lane, to, this.#task.end)
    const cut = await this.#cut(begin < to ? begin : to, to, true)
    if (mark !== undefined && (mark.digest !== cut.lines.digest || mark.records !== cut.lines.records)) {
      await this.#discard(cut)
      throw rangeChanged(lane, mark, `${cut.lines.records} (${cut.lines.digest})`)
    }
    return this.#chunk(cut, begin)
  }

  async #cut(from: bigint, limit: bigint, exact: boolean): Promise<Cut> {
    const { chunkBytes, signal } = this.#options
    const lines = new ChunkLines({ ...this.#options, ...this.#task })
    const targetBytes = exact ? Number.POSITIVE_INFINITY : chunkBytes
    let at = from
    try {
      while (at < limit) {
        signal.throwIfAborted()
        const full = await this.#take(lines, at, limit, targetBytes).catch((error: unknown) => {
          // What has come is whole, and may be nowhere else any more.
          if (exact || lines.taken === 0 || !(error instanceof AdflowError) || error.code !== 'SOURCE_CHANGED')
            throw error
          return { at, full: true }
        })
        at = full.at
        if (full.full) break
      }
      if (!exact && at < limit) at = least(limit, this.#log.emptyUntil(at))
      return { to: at, lines: await lines.finish() }
    } catch (error) {
      await lines.discard()
      throw error
    }
  }

  async #take(
    lines: ChunkLines,
    at: bigint,
    limit: bigint,
    targetBytes: number,
  ): Promise<{ readonly at: bigint; readonly full: boolean }> {
    const { batch, next } = await this.#log.stretch(at, limit)
    if (batch === undefined) return { at: least(limit, next), full: false }
    if (batch.base >= limit) return { at: limit, full: false }
    const records = await this.#log.records(batch)
    try {
      const end = await lines.take(batch, records, { from: at, to: limit, targetBytes })
      return end === undefined ? { at: least(limit, batch.last + 1n), full: false } : { at: end, full: end < limit }
    } catch (error) {
      if (error instanceof RangeError) throw damaged(this.origin, batch.base, `is broken: ${error.message}`)
      throw error
    }
  }

  #chunk({ to, lines }: Cut, begin: bigint): Chunk {
    const { lane, topicId } = this.#task
    const from = String(this.at)
    const mark = markText({
      topic: topicId,
      ...{ from, to: String(to), digest: lines.digest, records: lines.records },
      ...(begin === this.at ? {} : { begin: String(begin) }),
    })
    this.at = to
    let released: Promise<void> | undefined
    return {
      range: { lane, from, to: String(to) },
      mark,
      origin: this.origin,
      ...lines,
      release: () => {
        released ??= rm(lines.file, { force: true })
        return released
      },
    }
  }

  #discard({ lines }: Cut): Promise<void> {
    return rm(lines.file, { force: true })
  }
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
