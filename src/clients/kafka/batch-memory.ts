/**
 * What a job knows of the batches in its topic. The newest are known one by one. What lies behind that horizon is folded: its entries go, and
 * the ranges that it has loaded stay, joined where they touch, so that a lane costs the same after a month as after a day.
 */
import type { BatchInfo, Range } from '../../core/contracts.ts'
import { comparePositions } from '../../core/positions.ts'
import { ownsLane, type Shard } from '../../core/shard.ts'
import { epochOf } from '../../core/token.ts'
import { type BatchEntry, type FoldedLane, type FoldedPiece, foldedKey, type TopicRecord } from './batch-entries.ts'

export interface HeldBatch {
  readonly digest: string
  readonly rows: number
}

export interface MemoryOptions {
  readonly job: string
  /** Other shards have other lanes, and fold them themselves. */
  readonly shard: Shard | undefined
  /** The output that the loader reads. */
  readonly input: string
  /** How many batches are known one by one. */
  readonly remember: number
}

/** Entries that go, and the lanes of which they become a part: for one transaction. */
export interface Fold {
  readonly tokens: readonly string[]
  /** By key. */
  readonly lanes: ReadonlyMap<string, FoldedLane>
}

/** So many go at once, so that what folding adds to a batch is one small record on average, and a transaction stays small. */
const FOLDED_AT_ONCE = 500

/** As many of a lane as a job may have under way (`in_flight`): a lane that stands still while others go on may repeat these. */
const KEPT_OF_LANE = 64

interface Known extends BatchEntry {
  /** null: made under another output, or by something that this job no longer is. */
  epoch?: bigint | null
}

export class BatchMemory {
  readonly #options: MemoryOptions
  /** By token, oldest first. */
  readonly #entries = new Map<string, Known>()
  /** Lane → how many of them. */
  readonly #ofLane = new Map<string, number>()
  readonly #lanes = new Map<string, FoldedLane>()
  readonly #atOnce: number
  /** With fewer entries nothing is looked for: what can be folded came too late for that. */
  #foldAt: number

  constructor(options: MemoryOptions) {
    this.#options = options
    this.#atOnce = Math.min(FOLDED_AT_ONCE, Math.ceil(options.remember / 20))
    this.#foldAt = options.remember + this.#atOnce
  }

  get size(): number {
    return this.#entries.size
  }

  take(record: TopicRecord): void {
    if (record.type === 'gone') this.#forget(record.token)
    else if (record.type === 'entry' && this.#isOwn(record.entry)) this.#know(record.token, record.entry)
    else if (record.type === 'folded' && this.#isOwn(record.lane)) this.#lanes.set(record.key, record.lane)
  }

  find(token: string): HeldBatch | undefined {
    return this.#entries.get(token)
  }

  /** The folded range that a batch reaches into which is not known: whether the topic has it, or a part of it, cannot be said. */
  foldedAt({ source, range, token }: Pick<BatchInfo, 'source' | 'range' | 'token'>): FoldedPiece | undefined {
    const { input, job } = this.#options
    const lanes = [...this.#lanes.values()].filter(
      (own) => own.source === source && own.lane === range.lane && (own.output ?? 'main') === input,
    )
    if (lanes.length === 0) return undefined
    const epoch = epochOf(job, input, { source, range, token })
    return lanes
      .filter((own) => epoch === undefined || own.epoch === String(epoch))
      .flatMap(({ folded }) => folded)
      .find((piece) => comparePositions(piece.from, range.to) < 0 && comparePositions(range.from, piece.to) < 0)
  }

  /** What may be folded now; changes nothing. The caller says by apply() that it is there for good. */
  fold(): Fold | undefined {
    const { remember } = this.#options
    if (this.#entries.size < this.#foldAt) return undefined
    const going = new Map<string, number>()
    const tokens: string[] = []
    const lanes = new Map<string, FoldedLane>()
    let older = this.#entries.size - remember
    for (const [token, entry] of this.#entries) {
      if (older <= 0 || tokens.length === FOLDED_AT_ONCE) break
      older -= 1
      const lane = laneOf(entry)
      const gone = going.get(lane) ?? 0
      const stay = (this.#ofLane.get(lane) ?? 0) - gone
      if (stay <= Math.min(KEPT_OF_LANE, remember) || !this.#add(lanes, token, entry)) continue
      going.set(lane, gone + 1)
      tokens.push(token)
    }
    if (tokens.length < FOLDED_AT_ONCE) this.#foldAt = this.#entries.size - tokens.length + this.#atOnce
    return tokens.length === 0 ? undefined : { tokens, lanes }
  }

  apply({ lanes, tokens }: Fold): void {
    for (const token of tokens) this.#forget(token)
    for (const [key, lane] of lanes) this.#lanes.set(key, lane)
  }

  #know(token: string, entry: BatchEntry): void {
    if (!this.#entries.has(token)) this.#count(entry, 1)
    this.#entries.set(token, { ...entry })
  }

  #forget(token: string): void {
    const entry = this.#entries.get(token)
    if (entry === undefined) return
    this.#entries.delete(token)
    this.#count(entry, -1)
  }

  #count(entry: BatchEntry, more: number): void {
    const lane = laneOf(entry)
    const count = (this.#ofLane.get(lane) ?? 0) + more
    if (count === 0) this.#ofLane.delete(lane)
    else this.#ofLane.set(lane, count)
  }

  #add(lanes: Map<string, FoldedLane>, token: string, entry: Known): boolean {
    const { input, job } = this.#options
    const { from, lane, loader, rows, source, to } = entry
    const range: Range = { lane, from, to }
    if (entry.epoch === undefined) entry.epoch = epochOf(job, input, { source, range, token }) ?? null
    if (entry.epoch === null) return false
    const output = input === 'main' ? {} : { output: input }
    const identity = { job, loader, source, lane, epoch: String(entry.epoch), ...output }
    const key = foldedKey(identity)
    const before = lanes.get(key)?.folded ?? this.#lanes.get(key)?.folded ?? []
    lanes.set(key, { ...identity, folded: joined(before, { from, to, batches: 1, rows }) })
    return true
  }

  #isOwn({ job, lane }: { readonly job: string; readonly lane: string }): boolean {
    return job === this.#options.job && ownsLane(this.#options.shard, lane)
  }
}

/** With one more; ascending, and what touches is one. */
function joined(pieces: readonly FoldedPiece[], added: FoldedPiece): FoldedPiece[] {
  const apart = (one: FoldedPiece) =>
    comparePositions(one.to, added.from) < 0 || comparePositions(added.to, one.from) < 0
  const touching = pieces.filter((one) => !apart(one))
  const whole = touching.reduce(
    (a, b) => ({
      from: comparePositions(a.from, b.from) < 0 ? a.from : b.from,
      to: comparePositions(a.to, b.to) > 0 ? a.to : b.to,
      batches: a.batches + b.batches,
      rows: a.rows + b.rows,
    }),
    added,
  )
  return [...pieces.filter(apart), whole].sort((a, b) => comparePositions(a.from, b.from))
}

function laneOf({ lane, source }: BatchEntry): string {
  return JSON.stringify([source, lane])
}
