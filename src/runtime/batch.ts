/** One batch on its way through a run, and what the run works with. */
import type { Logger } from 'pino'
import type { BatchInfo, Chunk } from '../core/contracts.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { Turn } from '../core/turnstile.ts'
import type { Session } from '../engine/session.ts'
import type { Ledger } from '../lineage/ledger.ts'
import type { PlannedBatch } from './checkpoint-slot.ts'
import type { Saver } from './group-saver.ts'
import type { OpenGaps } from './open-gaps.ts'
import type { Outbox } from './outbox.ts'
import type { Phases } from './phases.ts'
import type { ReferenceVersions } from './reference-tables.ts'
import type { PastRanges, RoundLimits, RunObserver } from './run.ts'
import type { StateDir } from './state-dir.ts'
import type { BatchState, State } from './states.ts'
import type { Store } from './store.ts'
import type { RunSummary } from './summary.ts'
import type { Workshop } from './workshop.ts'

export interface BatchesOptions {
  readonly job: Job
  readonly registry: Registry
  readonly state: StateDir
  readonly ledger: Ledger
  readonly saver: Saver
  readonly gaps: OpenGaps
  readonly stores: readonly Store[]
  readonly workshop: Workshop
  /** Where the job distributes something. */
  readonly outbox: Outbox | undefined
  /** Hands over what waits in the outbox, because it is full. */
  readonly makeRoom: () => Promise<void>
  readonly summary: RunSummary
  readonly phases: Phases
  readonly log: Logger
  readonly modified?: { readonly from?: number; readonly to?: number }
  /** Its ranges are all there is to read. */
  readonly past?: PastRanges
  /** The sources are read until the run is told to stop. */
  readonly forever: boolean
  readonly round?: RoundLimits
  readonly drain?: AbortSignal
  readonly observer?: RunObserver
  warn(text: string): void
}

export type Source = Workshop['extractors'][number]

export interface Batch {
  readonly source: Source
  readonly chunk: Chunk
  /** When its edges were taken, by performance.now(). */
  readonly begunMs: number
  readonly plan: PlannedBatch
  /** Planned before this run: a store may have it already. */
  readonly repeated: boolean
  /** The versions of reference data that it sees. */
  readonly references: ReferenceVersions | undefined
  readonly token: string
  /** The plan is on disk: the range will be retried exactly. */
  readonly planned: Promise<void>
  readonly session: Session
  /** Nothing more is asked of its session: another batch may have it. Once or more. */
  readonly leave: () => void
  /** Order of the batches, for work that must keep it. */
  readonly turn: Turn
  readonly storeTurns: ReadonlyMap<string, Turn>
  readonly state: BatchState
  readonly moves: { readonly state: State; readonly before: State }[]
}

/** What the stores, the quarantine and the spool must know of a batch. */
export function infoOf(job: string, { source, chunk, plan, token }: Batch): BatchInfo {
  return { job, source: source.config.id, range: chunk.range, token, digest: chunk.digest, clock: plan.clock }
}

/** Where the chunk begins. */
export function placeOf({ config }: Source, { range }: Chunk): Pick<PlannedBatch, 'source' | 'lane' | 'from'> {
  return { source: config.id, lane: range.lane, from: range.from }
}
