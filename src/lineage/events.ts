/** What can happen to a job, as events of the ledger. Integers that may exceed 2^53 are decimal strings. */
import type { Position } from '../core/contracts.ts'
import type { ContentDigest } from '../core/store-contract.ts'

/** Counts per rule, step or loader id. */
type PerId<Value = number> = Readonly<Record<string, Value>>

interface RangeFields {
  readonly source: string
  readonly lane: string
  readonly from: Position
  readonly to: Position
}

export interface RunStarted {
  readonly type: 'run_started'
  readonly run: string
  readonly job: string
  /** The command as typed, without secrets. */
  readonly command: string
  /** Absent in ledgers of the first version. */
  readonly who?: string
  /** Version of adflow. */
  readonly version: string
  readonly epoch: string
  /** What the run was made of: the name of a file in the folder `pins` of the state directory. */
  readonly pin: string
  /** The scheduled time that the run is for: `<job>@<time>`. */
  readonly slot?: string
}

export interface RunEnded {
  readonly type: 'run_ended'
  readonly run: string
  /** `done`, `owed`, `failed`, `interrupted` … */
  readonly status: string
  readonly exit: number
  /** Error code of docs/errors.md, where it did not end well. */
  readonly code?: string
  readonly message?: string
}

/** One move of the table in runtime/states.ts. */
export interface BatchMoved extends RangeFields {
  readonly type: 'batch_moved'
  readonly token: string
  readonly state: string
  /** The state before; absent for the first. */
  readonly before_state?: string
}

export interface BatchCounts {
  readonly read: number
  /** By rule id. */
  readonly quarantined: PerId
  /** By step id. */
  readonly filtered: PerId
  readonly deduplicated: number
  /** By rule id: rows that went on with a warning. */
  readonly warned: PerId
}

/** Sums of a hash per row, so that one lost and one doubled row cannot cancel out as they would in a count or an xor. */
export interface BatchSums {
  readonly read: string
  readonly quarantined: string
  readonly filtered: string
  readonly deduplicated: string
  /** Of the rows handed to the loaders. */
  readonly out: string
}

export interface StoreOutcome {
  readonly rows: number
  /** `repeated`: an earlier write of the token had done it. `owed`: the batch waits in the spool. */
  readonly status: 'loaded' | 'repeated' | 'owed'
  /** Table name, file paths. */
  readonly outputs: readonly string[]
  /** Where the store reads another output than `main`: the token under which it has the batch. */
  readonly token?: string
  /** What the store held of the batch when it had been written, where it can tell. */
  readonly content?: ContentDigest
}

/** The books of one batch. A batch that is repeated after a crash is closed again; the last one counts. */
export interface BatchClosed extends RangeFields {
  readonly type: 'batch_closed'
  readonly token: string
  readonly sequence: string
  readonly origin: string
  /** Digest of the chunk. */
  readonly digest: string
  readonly bytes: number
  /** ISO 8601 UTC: now() of the batch. */
  readonly clock: string
  /** The extractor's evidence at the end of the range: with it the next range can be cut without those before. */
  readonly mark?: string
  /** Reference data that are read again while the run goes on → the version that the batch saw: a file in `pins/files`. */
  readonly references?: PerId<string>
  readonly counts: BatchCounts
  readonly sums: BatchSums
  readonly stores: PerId<StoreOutcome>
  /** Rows read that are in no store, no quarantine and no count. Anything but 0 is a fault. */
  readonly unaccounted: number
}

/** A batch that was owed has reached its store. */
export interface StorePaid {
  readonly type: 'store_paid'
  readonly token: string
  readonly loader: string
  readonly rows: number
  readonly content?: ContentDigest
}

/** A part of a source that could not be read; a later run tries again. */
export interface GapBooked {
  readonly type: 'gap'
  readonly source: string
  readonly lane: string
  readonly from: Position
  readonly to?: Position
  readonly code: string
  readonly message: string
}

/** A gap is repaid: what was missing from there on was collected, or the source has nothing more there. */
export interface GapClosed {
  readonly type: 'gap_closed'
  readonly source: string
  readonly lane: string
  readonly from: Position
}

export interface CheckpointFellBack {
  readonly type: 'checkpoint_fallback'
  readonly slot: string
  readonly reason: string
  readonly generation: string
}

/** The end of a segment that a crash had torn was cut off when the ledger was opened. */
export interface LedgerCutOff {
  readonly type: 'ledger_cut'
  readonly segment: string
  /** Byte position of the cut. */
  readonly byte: number
  readonly bytes: number
}

/** Somebody changed the state by hand. */
export interface StateChanged {
  readonly type: 'state_changed'
  readonly who: string
  readonly what: string
  readonly before: unknown
  readonly after: unknown
}

/** The checkpoint was rebuilt from what the stores remember. */
export interface Recovered {
  readonly type: 'recovered'
  readonly who: string
  readonly generation: string
  /** Stores that were asked. */
  readonly stores: readonly string[]
  readonly batches: number
}

/** Rows of a store are about to be put right. Without its end, the store itself knows whether it happened, by the token. */
export interface HealStarted {
  readonly type: 'heal_started'
  readonly token: string
  readonly who: string
  /** `missing` or `all`. */
  readonly what: string
  readonly loader: string
  /** What was found: rows by kind of difference. */
  readonly before: PerId
  /** Tokens of the batches that are read again. */
  readonly batches: readonly string[]
}

export interface HealEnded {
  readonly type: 'heal_ended'
  readonly token: string
  readonly who: string
  readonly loader: string
  /** `done`; `nothing`: it never reached the store. */
  readonly status: string
  readonly after: PerId
}

/** A batch rule or a rule with `on_fail: fail` stopped a batch. */
export interface RuleFailed extends Partial<RangeFields> {
  readonly type: 'rule_failed'
  readonly token?: string
  readonly rule: string
  readonly message: string
}

/** One file of the outbox on its way to one consumer: a move of the table in runtime/states.ts. */
export interface DistributionMoved {
  readonly type: 'distribution_moved'
  /** Of the output's batch. */
  readonly token: string
  readonly consumer: string
  readonly state: string
  readonly before_state: string
  /** Rows so far. */
  readonly delivered: number
  readonly dead: number
  readonly reason?: string
}

/** Somebody sent dead letters to their consumer again, or gave them up. */
export interface DeadLettersChanged {
  readonly type: 'dead_letters_changed'
  readonly who: string
  readonly consumer: string
  readonly what: 'replayed' | 'discarded'
  /** Ids of the messages. */
  readonly ids: readonly string[]
  readonly reason?: string
}

/** A consumer said that it wants nothing any more, or somebody switched it on again. */
export interface ConsumerSwitched {
  readonly type: 'consumer_switched'
  readonly consumer: string
  readonly state: 'on' | 'off'
  readonly who?: string
  readonly reason?: string
}

/** A batch rule with `on_fail: warn` does not hold for a batch, which went on all the same. */
export interface RuleWarned extends RangeFields {
  readonly type: 'rule_warned'
  readonly token: string
  readonly rule: string
  readonly message: string
}

/** Somebody has a part of the past loaded: again, or for the first time. A resumption is another start. */
export interface BackfillStarted {
  readonly type: 'backfill_started'
  readonly backfill: string
  readonly run: string
  readonly who: string
  /** The command as typed, without secrets. */
  readonly command: string
  /** Ranges to be read for the first time, and batches to be brought back. */
  readonly first: number
  readonly restore: number
}

export interface BackfillEnded {
  readonly type: 'backfill_ended'
  readonly backfill: string
  /** `done`, `paused`, `incomplete`, `cancelled`, `failed`. */
  readonly status: string
  /** Rows that stores have got back since this start. */
  readonly rows: number
  readonly message?: string
}

/** Stores have got a batch back that was gone from them. Its books stay as they were closed. */
export interface BatchRestored extends RangeFields {
  readonly type: 'batch_restored'
  readonly backfill: string
  readonly token: string
  /** `repeated`: the store had it all by then. */
  readonly stores: PerId<StoreOutcome>
}

export type LedgerEvent =
  | BackfillStarted
  | BackfillEnded
  | BatchRestored
  | RunStarted
  | RunEnded
  | BatchMoved
  | BatchClosed
  | StorePaid
  | GapBooked
  | GapClosed
  | CheckpointFellBack
  | LedgerCutOff
  | StateChanged
  | Recovered
  | HealStarted
  | HealEnded
  | RuleFailed
  | DistributionMoved
  | DeadLettersChanged
  | ConsumerSwitched
  | RuleWarned
