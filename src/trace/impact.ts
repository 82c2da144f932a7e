/**
 * From records of a source to everything that came of them: rows in every store, an entry of the quarantine, or the rule or step
 * that took them out. The inverse of a trace, by the same repetition of batches. Reads only.
 */
import { resolve } from 'node:path'
import type { Logger } from 'pino'
import { AdflowError, EXIT } from '../core/errors.ts'
import type { Environment } from '../core/job/interpolate.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { openBrowser } from '../runtime/browse.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'
import { stateDirOf } from '../runtime/state-dir.ts'
import { type Chosen, chooseRecords, type RecordRange } from './choose-records.ts'
import { type Fate, fatesOf } from './fates.ts'
import { repeatBatches } from './repeat.ts'
import { type StoreImpact, storeImpacts } from './store-impact.ts'
import { openStores } from './stores.ts'
import { batchTold, runsTold, type TracedBatch, type TracedRun } from './trace-result.ts'

export interface ImpactOptions extends RecordRange {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  readonly env: Environment
  readonly signal: AbortSignal
  /** Name of the lane, or path of the file; undefined: every lane. */
  readonly file?: string
  /** Folder that a relative path starts from. */
  readonly cwd: string
  readonly limit: number
}

export interface ImpactedRecord extends Fate {
  /** Token: a key of `batches`. */
  readonly batch: string
  /** What every store has of it; empty where the record did not pass. */
  readonly stores: readonly StoreImpact[]
}

export interface Impact {
  readonly schema_version: 1
  readonly job: string
  readonly records: readonly ImpactedRecord[]
  readonly batches: Readonly<Record<string, TracedBatch>>
  readonly runs: Readonly<Record<string, TracedRun>>
  /** Stores that could not be looked into, and why. */
  readonly closed: Readonly<Record<string, string>>
  /** Batches that could not be repeated, by token, and why. */
  readonly unreadable: Readonly<Record<string, string>>
  readonly warnings: readonly string[]
  /** 0: each record is accounted for. 65: bytes of the source are gone or changed. 69: a store is down. 11: a store lacks a row. */
  readonly exit: number
}

/** @throws AdflowError USAGE, NOT_FOUND, LEDGER_DAMAGED */
export async function impactOf(options: ImpactOptions): Promise<Impact> {
  const { job, registry, log, signal, limit } = options
  const state = stateDirOf(options.stateDir, job.name)
  const browser = await openBrowser(job, options.stateDir, registry, log, { stores: false })
  try {
    const { session } = browser
    const { open, closed } = await openStores({ job, registry, log, session })
    const all = await pastBatches(session)
    const batches = overlapping(all, options)
    const records: ImpactedRecord[] = []
    const chosen = new Map<string, Chosen>()
    const warnings: string[] = []
    const outputs = open.flatMap(({ output }) => (output.kind === 'set' ? [output.name] : []))
    const repeats = await repeatBatches(
      batches,
      { job, registry, state, log, env: options.env, outputs, signal },
      async (repetition) => {
        const { past, refined } = repetition.repeated
        if (refined.rows !== past.rows)
          warnings.push(
            `batch ${past.token.slice(0, 12)} gives ${refined.rows} rows now, and its books say ${past.rows}: its steps remember other records by now`,
          )
        const fates = await fatesOf(
          repetition,
          chosen.get(past.token) ?? { ordinals: [], refused: [] },
          state.quarantine,
        )
        const passed = fates.flatMap(({ row }) => (row === undefined ? [] : [row]))
        const impacts = await storeImpacts(repetition, passed, { session, stores: open, batches: all, job })
        for (const { row, ...fate } of fates)
          records.push({ ...fate, batch: past.token, stores: row === undefined ? [] : (impacts.get(row) ?? []) })
      },
      async (past, chunk) => {
        if (records.length >= limit) return false
        const some = await chooseRecords(chunk, options, limit - records.length)
        chosen.set(past.token, some)
        return some.ordinals.length + some.refused.length > 0
      },
    )
    const unreadable = Object.fromEntries([...repeats.failed].map(([token, { message }]) => [token, message]))
    if (records.length === 0 && repeats.failed.size === 0) throw notThere(options)
    const used = batches.filter(({ token }) => records.some(({ batch }) => batch === token) || token in unreadable)
    return {
      schema_version: 1,
      job: job.name,
      records,
      batches: Object.fromEntries(used.map((batch) => [batch.token, batchTold(batch)])),
      runs: runsTold(used, repeats.pinned),
      closed: Object.fromEntries(Object.entries(closed).map(([id, { message }]) => [id, message])),
      unreadable,
      warnings,
      exit: exitOf(records, repeats.failed.size > 0, Object.keys(closed).length > 0),
    }
  } finally {
    browser.close()
  }
}

/** Batches that may hold the records, in the order in which they were planned. */
function overlapping(all: readonly PastBatch[], { file, cwd, bytes, job }: ImpactOptions): readonly PastBatch[] {
  const path = file === undefined ? undefined : resolve(cwd, file)
  const own = all.filter(({ lane, origin }) => file === undefined || lane === file || origin === path)
  if (own.length === 0)
    throw new AdflowError('NOT_FOUND', `job ${job.name} has never read anything of ${file ?? 'its sources'}`, {
      hint: `see \`adflow query --job ${job.name} "select distinct lane, origin from batches"\``,
    })
  if (bytes === undefined) return own
  const [from, to] = [BigInt(bytes.from), BigInt(bytes.to)]
  const some = own.filter((batch) => BigInt(batch.from) < to && BigInt(batch.to) > from)
  if (some.length > 0) return some
  const end = own.reduce((most, batch) => (BigInt(batch.to) > most ? BigInt(batch.to) : most), 0n)
  throw new AdflowError(
    'NOT_FOUND',
    `bytes ${from}–${to} of ${file} were never loaded: the job has read up to ${end}`,
    {
      hint: 'run the job, or ask for another range',
    },
  )
}

function notThere({ file, bytes, line, record }: ImpactOptions): AdflowError {
  const what = [
    ...(bytes === undefined ? [] : [`in bytes ${bytes.from}–${bytes.to}`]),
    ...(line === undefined ? [] : [`at line ${line}`]),
    ...(record === undefined ? [] : ['with these bytes']),
  ].join(' ')
  return new AdflowError('NOT_FOUND', `${file ?? 'the sources'}: the job has read no record ${what}`, {
    hint: 'lines count from 1, the header of a CSV file included; bytes are those of the decompressed file; Parquet has lines (rows) only',
  })
}

function exitOf(records: readonly ImpactedRecord[], unreadable: boolean, down: boolean): number {
  if (unreadable) return EXIT.rejected
  if (records.some(({ stores }) => stores.some(({ status }) => status === 'missing'))) return EXIT.differences
  return down ? EXIT.unavailable : EXIT.done
}
