/** The result of a run: what `adflow run --json` prints, and what the totals of the ledger must agree with. */
import { type ErrorCode, EXIT } from '../core/errors.ts'
import type { BatchCounts, StoreOutcome } from '../lineage/events.ts'
import type { ConsumerSummary } from './distribution.ts'
import type { PhaseTiming } from './phases.ts'

export interface StoreSummary {
  /** Rows written in this run, those owed by earlier runs included. */
  loaded: number
  /** Rows that an earlier write of the same batch had brought there: the store refused the repetition. */
  repeated: number
  /** Rows that wait in the spool. */
  owed: number
  /** Why, where something is owed. */
  reason?: string
}

export interface GapSummary {
  readonly source: string
  readonly lane: string
  readonly from: string
  readonly to?: string
  readonly code: string
  readonly message: string
  readonly optional: boolean
}

/** What became of one source in a run. */
export interface SourceSummary {
  /** `waiting`: for its place. `fetching`. `loading`: all is fetched. `done`: at its end. `gap`: not at its end. `stopped`: with the run. */
  state: 'waiting' | 'fetching' | 'loading' | 'done' | 'gap' | 'stopped'
  /** Of batches that are through. */
  records: number
  bytes: number
  /** Bytes that the source gave, where it tells before they make a batch. */
  fetched: number
  /** Bytes staged and not loaded, of sources that cannot be read again. */
  staged: number
  /** Bytes that the source held for this run when it began, where that was asked and is known. */
  size?: number
  /** Records that were there and not read yet, where the source tells; now, in a run that goes on for ever. */
  lag?: number
  /** From its beginning to the end of its last batch. */
  seconds: number
  gaps: number
}

export interface RunSummary {
  schema_version: 1
  run: string
  job: string
  /** done · owed · gaps · rejected · interrupted · failed. */
  status: string
  exit: number
  started_at: string
  seconds: number
  batches: number
  bytes: number
  read: number
  filtered: number
  filtered_by: Record<string, number>
  quarantined: number
  quarantined_by: Record<string, number>
  deduplicated: number
  warned_by: Record<string, number>
  /** Records that passed everything and were handed to the stores. */
  passed: number
  unaccounted: number
  /** By id, in the order in which they began. */
  sources: Record<string, SourceSummary>
  stores: Record<string, StoreSummary>
  /** Rows, by id of the consumer. */
  consumers: Readonly<Record<string, ConsumerSummary>>
  /** That are open at the end, and what is lost. */
  gaps: GapSummary[]
  /** How long batches were in each phase; `batch` is all of it, from the plan to the checkpoint. */
  timing: Readonly<Record<string, PhaseTiming>>
  warnings: string[]
  error?: { code: ErrorCode; message: string; hint?: string }
}

export function emptySummary(run: string, job: string, stores: readonly string[], startedAt: Date): RunSummary {
  return {
    schema_version: 1,
    run,
    job,
    status: 'done',
    exit: EXIT.done,
    started_at: startedAt.toISOString(),
    seconds: 0,
    batches: 0,
    bytes: 0,
    read: 0,
    filtered: 0,
    filtered_by: {},
    quarantined: 0,
    quarantined_by: {},
    deduplicated: 0,
    warned_by: {},
    passed: 0,
    unaccounted: 0,
    sources: {},
    stores: Object.fromEntries(stores.map((id) => [id, { loaded: 0, repeated: 0, owed: 0 }])),
    consumers: {},
    gaps: [],
    timing: {},
    warnings: [],
  }
}

export function newSource(): SourceSummary {
  return { state: 'waiting', records: 0, bytes: 0, fetched: 0, staged: 0, seconds: 0, gaps: 0 }
}

/** The source has it no more, or has something else there. */
const LOST: ErrorCode = 'SOURCE_CHANGED'

/** The run has collected what was missing there: it ends as if it had never been. What is lost stays, also where the lane goes on behind it. */
export function forgetRepaid(summary: RunSummary, repaid: Pick<GapSummary, 'source' | 'lane' | 'from'>): void {
  const left = summary.gaps.filter(
    ({ source, lane, from, code }) =>
      source !== repaid.source || lane !== repaid.lane || from !== repaid.from || code === LOST,
  )
  const source = summary.sources[repaid.source]
  if (source !== undefined) source.gaps -= summary.gaps.length - left.length
  summary.gaps = left
}

/** A run that goes on for ever keeps the first ones; the log has all. */
const MOST_WARNINGS = 1000

export function addWarning({ warnings }: RunSummary, text: string): void {
  if (warnings.length < MOST_WARNINGS) warnings.push(text)
  else if (warnings.length === MOST_WARNINGS) warnings.push('there were more warnings: see the log and the ledger')
}

export function addBatch(
  summary: RunSummary,
  batch: {
    readonly source: string
    readonly counts: BatchCounts
    readonly rows: number
    readonly bytes: number
    readonly stores: Readonly<Record<string, StoreOutcome>>
  },
): void {
  const { counts } = batch
  const source = summary.sources[batch.source]
  if (source !== undefined) {
    source.records += counts.read
    source.bytes += batch.bytes
  }
  summary.batches += 1
  summary.bytes += batch.bytes
  summary.read += counts.read
  summary.passed += batch.rows
  summary.deduplicated += counts.deduplicated
  summary.filtered += addAll(summary.filtered_by, counts.filtered)
  summary.quarantined += addAll(summary.quarantined_by, counts.quarantined)
  addAll(summary.warned_by, counts.warned)
  for (const [id, outcome] of Object.entries(batch.stores)) {
    const store = summary.stores[id]
    if (store !== undefined) store[outcome.status] += outcome.rows
  }
  summary.unaccounted = summary.read - summary.passed - summary.filtered - summary.quarantined - summary.deduplicated
}

function addAll(into: Record<string, number>, counts: Readonly<Record<string, number>>): number {
  let total = 0
  for (const [id, count] of Object.entries(counts)) {
    into[id] = (into[id] ?? 0) + count
    total += count
  }
  return total
}
