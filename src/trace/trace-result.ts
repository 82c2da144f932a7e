/** What a trace tells, as JSON: rows, and beside them each batch and run once. */
import type { Logger } from 'pino'
import { EXIT } from '../core/errors.ts'
import type { Environment } from '../core/job/interpolate.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { CONTRACT_RULES } from '../engine/read-plan.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import type { PinnedJob } from '../runtime/pinned-job.ts'
import type { TracedRecord } from './records.ts'
import type { Repeats } from './repeat.ts'
import type { OpenStore } from './stores.ts'
import type { Asked, Wanted } from './wanted.ts'

export interface TraceOptions extends Asked {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  readonly env: Environment
  /** Default: the first store whose rows know their batches. */
  readonly store?: string
  readonly signal: AbortSignal
}

/** Why a row could not be led to its record. */
export interface Untraced {
  /** `source`: the bytes are gone or other ones; the place is told all the same. */
  readonly status: 'source' | 'changed' | 'unknown_batch' | 'unnumbered'
  readonly code?: string
  readonly message: string
  readonly hint?: string
}

export interface TracedRow {
  /** As the store has it. */
  readonly row: Readonly<Record<string, unknown>>
  readonly status: 'traced' | Untraced['status']
  /** What `records` are. `record`: the one behind the row. `group`: those that made up a row of a set-wise output. `batch`: the row
   *  comes of the batch as a whole. */
  readonly given: 'record' | 'group' | 'batch' | null
  readonly records: readonly TracedRecord[]
  /** Token: a key of `batches`. */
  readonly batch: string | null
  readonly message: string | null
  readonly hint: string | null
}

export interface TracedBatch {
  readonly source: string
  readonly lane: string
  readonly from: string
  readonly to: string
  readonly origin: string
  /** Digest of the bytes of the range. */
  readonly digest: string
  /** When the range was planned. */
  readonly clock: string
  /** When the store had it. */
  readonly loaded_at: string
  readonly run: string
}

export interface TracedRun {
  readonly adflow: string | null
  readonly engine: string | null
  /** Name of the pin, and digest of the job file in it. */
  readonly pin: string | null
  readonly job_file: string | null
  readonly job_digest: string | null
  /** Ids, in their order; every row that was loaded has passed them. */
  readonly rules: readonly string[]
  readonly steps: readonly { readonly id: string; readonly verb: string }[]
  /** Secrets that are other ones by now. */
  readonly secrets_changed: readonly string[]
}

export interface Trace {
  readonly schema_version: 1
  readonly job: string
  readonly store: string
  readonly counts: { readonly rows: number; readonly traced: number; readonly batches: number }
  readonly rows: readonly TracedRow[]
  readonly batches: Readonly<Record<string, TracedBatch>>
  readonly runs: Readonly<Record<string, TracedRun>>
  /** 0: every row was traced. 65: bytes of a source are gone. 11: rows are not what their batches give. */
  readonly exit: number
}

export interface Told {
  readonly job: Job
  readonly store: OpenStore
  readonly wanted: Wanted
  readonly batches: ReadonlyMap<bigint, PastBatch>
  readonly found: ReadonlyMap<number, { readonly records: readonly TracedRecord[] }>
  readonly untraced: (number: bigint | null) => Untraced
  readonly repeats: Repeats
}

export function told({ job, store, wanted, batches, found, untraced, repeats }: Told): Trace {
  const rows = wanted.rows.map((values, id): TracedRow => {
    const number = wanted.numbers[id] ?? null
    const row = Object.fromEntries(wanted.columns.map(({ name }, index) => [name, values[index] ?? null]))
    const batch = (number === null ? undefined : batches.get(number)?.token) ?? null
    const match = found.get(id)
    if (match === undefined) {
      const { status, message, hint = null } = untraced(number)
      return { row, status, given: null, records: [], batch, message, hint }
    }
    const { records } = match
    const given = store.output.kind === 'row' ? 'record' : records.length > 0 ? 'group' : 'batch'
    return { row, status: 'traced', given, records, batch, message: null, hint: null }
  })
  const used = [...batches.values()]
  const statuses = new Set(rows.map(({ status }) => status))
  return {
    schema_version: 1,
    job: job.name,
    store: store.id,
    counts: {
      rows: rows.length,
      traced: rows.filter(({ status }) => status === 'traced').length,
      batches: used.length,
    },
    rows,
    batches: Object.fromEntries(used.map((batch) => [batch.token, batchTold(batch, store.id)])),
    runs: runsTold(used, repeats.pinned),
    exit: statuses.has('source')
      ? EXIT.rejected
      : rows.every(({ status }) => status === 'traced')
        ? EXIT.done
        : EXIT.differences,
  }
}

export function batchTold(batch: PastBatch, store?: string): TracedBatch {
  const { source, lane, from, to, origin, digest, clock, run } = batch
  const loaded = (store === undefined ? undefined : batch.paidAt[store]) ?? batch.closedAt
  return { source, lane, from, to, origin, digest, clock, loaded_at: loaded, run }
}

export function runsTold(
  batches: readonly PastBatch[],
  pinned: ReadonlyMap<string, PinnedJob>,
): Record<string, TracedRun> {
  return Object.fromEntries(batches.map(({ run, pin }) => [run, runTold(pin, pinned.get(pin ?? ''))]))
}

function runTold(pin: string | undefined, pinned: PinnedJob | undefined): TracedRun {
  return {
    adflow: pinned?.adflow ?? null,
    engine: pinned?.engine ?? null,
    pin: pin ?? null,
    job_file: pinned?.job.file ?? null,
    job_digest: pinned?.job.digest ?? null,
    rules: pinned === undefined ? [] : rulesOf(pinned.job),
    steps: pinned === undefined ? [] : pinned.job.steps.map(({ id, verb }) => ({ id, verb })),
    secrets_changed: pinned?.changed ?? [],
  }
}

/** Those of the contract are asked first. */
function rulesOf(job: Job): string[] {
  const { malformed, type, required } = CONTRACT_RULES
  return [malformed, type, required, ...job.rowRules.map(({ id }) => id)]
}
