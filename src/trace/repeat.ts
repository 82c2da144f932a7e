/**
 * Batches of the past, each once more by the job of its own run. One that cannot be repeated (its file is gone, its pin lost)
 * costs no other batch.
 */
import type { Logger } from 'pino'
import type { Chunk } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Environment } from '../core/job/interpolate.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import { openPinnedJob, type PinnedJob } from '../runtime/pinned-job.ts'
import { Pins } from '../runtime/pins.ts'
import { type RepeatedBatch, Rerun } from '../runtime/rerun.ts'
import type { StateDir } from '../runtime/state-dir.ts'

export interface RepeatOptions {
  /** The job file of today. */
  readonly job: Job
  readonly registry: Registry
  readonly state: StateDir
  readonly log: Logger
  readonly env: Environment
  /** Set-wise outputs that are looked at. */
  readonly outputs: readonly string[]
  readonly signal: AbortSignal
}

export interface Repetition {
  readonly repeated: RepeatedBatch
  readonly rerun: Rerun
  readonly pinned: PinnedJob
}

export interface Repeats {
  /** Why a batch was not repeated, by token. */
  readonly failed: ReadonlyMap<string, AdflowError>
  /** What the runs were made of, by pin. */
  readonly pinned: ReadonlyMap<string, PinnedJob>
}

type Visit = (repetition: Repetition) => Promise<void>
type Wanted = (past: PastBatch, chunk: Chunk) => Promise<boolean>

export async function repeatBatches(
  batches: readonly PastBatch[],
  options: RepeatOptions,
  visit: Visit,
  /** false: the chunk was cut, and need not be refined. */
  wanted: Wanted = async () => true,
): Promise<Repeats> {
  const failed = new Map<string, AdflowError>()
  const jobs = new Map<string, PinnedJob>()
  const { job, registry, state, log, env, outputs } = options
  for (const [pin, own] of Map.groupBy(batches, (batch) => batch.pin)) {
    let rerun: Rerun
    let pinned: PinnedJob
    try {
      pinned = await pinnedOf(pin, options)
      jobs.set(pin ?? '', pinned)
      rerun = await Rerun.open({
        job: pinned.job,
        registry,
        log,
        outputs,
        evolved: pinned.evolved,
        locate: pinned.locate,
        copies: pinned.copies,
        memory: state.database,
      })
    } catch (error) {
      if (!(error instanceof AdflowError)) throw error
      for (const { token } of own) failed.set(token, error)
      continue
    }
    try {
      const each = new EachSource(
        rerun,
        failed,
        options.signal,
        (repeated) => visit({ repeated, rerun, pinned }),
        wanted,
      )
      for (const [source, list] of Map.groupBy(own, (batch) => batch.source)) await each.repeat(source, list)
    } finally {
      await rerun.close()
    }
  }
  return { failed, pinned: jobs }

  async function pinnedOf(pin: string | undefined, { job: today }: RepeatOptions): Promise<PinnedJob> {
    if (pin !== undefined) return openPinnedJob(new Pins(state.pins), pin, { registry, today, env })
    throw new AdflowError('STATE_MISSING', `the ledger does not say what the run of the batch was made of`, {
      hint: `the run was made before adflow pinned its runs; \`adflow query --job ${job.name} "from batches"\` has the place of the batch`,
    })
  }
}

class EachSource {
  readonly #rerun: Rerun
  readonly #failed: Map<string, AdflowError>
  readonly #signal: AbortSignal
  readonly #visit: (repeated: RepeatedBatch) => Promise<void>
  readonly #wanted: Wanted

  constructor(
    rerun: Rerun,
    failed: Map<string, AdflowError>,
    signal: AbortSignal,
    visit: (repeated: RepeatedBatch) => Promise<void>,
    wanted: Wanted,
  ) {
    this.#rerun = rerun
    this.#failed = failed
    this.#signal = signal
    this.#visit = visit
    this.#wanted = wanted
  }

  /** All in one pass; where a range stops it, those that are left lane by lane, then one by one. */
  async repeat(source: string, batches: readonly PastBatch[]): Promise<void> {
    const left = new Map(batches.map((batch) => [batch.token, batch]))
    try {
      const wanted: Wanted = async (past, chunk) => {
        if (await this.#wanted(past, chunk)) return true
        left.delete(past.token)
        return false
      }
      for await (const item of this.#rerun.repeat(source, batches, this.#signal, wanted)) {
        if ('gap' in item) continue // told below, where batches are left of it
        left.delete(item.past.token)
        await this.#visit(item)
      }
      for (const batch of left.values()) this.#failed.set(batch.token, unreadable(batch))
    } catch (error) {
      if (!isOfSource(error)) throw error
      const lanes = [...Map.groupBy(left.values(), ({ lane }) => lane).values()]
      if (batches.length === 1) for (const { token } of left.values()) this.#failed.set(token, error)
      else
        for (const group of lanes.length > 1 ? lanes : [...left.values()].map((batch) => [batch]))
          await this.repeat(source, group)
    }
  }
}

function isOfSource(error: unknown): error is AdflowError {
  return error instanceof AdflowError && (error.code.startsWith('SOURCE_') || error.code === 'JOB_INVALID')
}

function unreadable({ origin, from, to }: PastBatch): AdflowError {
  return new AdflowError('SOURCE_CHANGED', `${origin} does not hold the bytes of [${from}, ${to}) any more`, {
    hint: 'the file is gone, shorter or another one by now: bring it back as it was to see the record itself',
  })
}
