/**
 * Brings batches back that stores have lost: cut and refined as their run had done it, compared with the books of then, and
 * written by `restore` of the loader, in one step per store. Killed before that step: the batch is missing still. Killed after it,
 * before the ledger: the store has it, and the resumption books it. The checkpoint and what steps remember are not touched.
 */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import type { Loader } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobLoader } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { StoreOutcome } from '../lineage/events.ts'
import type { Ledger } from '../lineage/ledger.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import { openPinnedJob } from '../runtime/pinned-job.ts'
import { Pins } from '../runtime/pins.ts'
import type { RepeatedBatch } from '../runtime/rerun.ts'
import { Rerun } from '../runtime/rerun.ts'
import type { StateDir } from '../runtime/state-dir.ts'
import { rowsIn, tokenIn } from './missing-batches.ts'
import { repeatAll } from './repeat.ts'
import { loadBatchOf } from './repeated-load.ts'

export interface RestoreOptions {
  readonly job: Job
  readonly registry: Registry
  readonly state: StateDir
  readonly log: Logger
  readonly ledger: Ledger
  readonly backfill: string
  /** Token → stores that are to get the batch. */
  readonly wanted: ReadonlyMap<string, readonly string[]>
  /** All batches of the ledger that count, in the order in which they were refined. */
  readonly past: readonly PastBatch[]
  readonly drain: AbortSignal
  readonly restored: (past: PastBatch, outcomes: Readonly<Record<string, StoreOutcome>>) => void
  readonly warn: (text: string) => void
}

/** A batch that stays missing. */
export interface Left {
  readonly past: PastBatch
  readonly code: string
  readonly message: string
}

/** Each by the job of its own run. What is drained is left without a reason. */
export async function restoreBatches(options: RestoreOptions): Promise<readonly Left[]> {
  const left: Left[] = []
  const items = options.past.filter(({ token }) => options.wanted.has(token))
  for (const [pin, own] of Map.groupBy(items, (past) => past.pin)) {
    if (options.drain.aborted) return left
    left.push(...(await new Restoration(options, pin, own).run()))
  }
  return left
}

/** The steps have decided otherwise than then. */
class OtherRows extends Error {
  override readonly name = 'OtherRows'
}

class Restoration {
  readonly #options: RestoreOptions
  readonly #pin: string | undefined
  readonly #items: readonly PastBatch[]
  readonly #done = new Set<string>()
  readonly #left = new Map<string, Left>()
  readonly #down = new Map<string, AdflowError>()

  constructor(options: RestoreOptions, pin: string | undefined, items: readonly PastBatch[]) {
    this.#options = options
    this.#pin = pin
    this.#items = items
  }

  async run(): Promise<readonly Left[]> {
    const { state } = this.#options
    const memory = existsSync(state.database) ? state.database : undefined
    try {
      // What the steps remember now decides mostly as then; the books tell.
      await this.#pass(this.#items, memory)
    } catch (error) {
      if (!(error instanceof OtherRows)) throw error
      const last = this.#items.findLast(({ token }) => this.#isOpen(token))
      const until = this.#options.past.findIndex(({ token }) => token === last?.token)
      await this.#pass(this.#options.past.slice(0, until + 1), undefined)
    }
    return [...this.#left.values()]
  }

  #isOpen(token: string): boolean {
    return this.#options.wanted.has(token) && !this.#done.has(token) && !this.#left.has(token)
  }

  async #pass(batches: readonly PastBatch[], memory: string | undefined): Promise<void> {
    const { job, drain } = this.#options
    const rerun = await this.#open(memory)
    const { stateful } = rerun.pipeline
    try {
      const loaders = await this.#openStores(rerun)
      for await (const item of repeatAll(rerun, stateful ? batches : this.#items, new AbortController().signal)) {
        if ('unreadable' in item) {
          const { past, code, message } = item.unreadable
          if (this.#isOpen(past.token)) this.#left.set(past.token, { past, code, message })
          continue
        }
        const { past, refined } = item
        if (this.#isOpen(past.token)) {
          if (refined.sums.out === past.sums.out && refined.rows === past.rows)
            await this.#restore(item, rerun, loaders, job)
          else if (stateful && memory !== undefined) throw new OtherRows()
          else this.#refuse(past, refined.rows)
        }
        if (drain.aborted) return
      }
    } finally {
      await rerun.close()
    }
  }

  async #open(memory: string | undefined): Promise<Rerun> {
    const { job, registry, state, log, warn } = this.#options
    const outputs = [...new Set(job.load.map(({ input }) => input ?? 'main'))]
    const common = { registry, log, outputs, ...(memory === undefined ? {} : { memory }) }
    const stores = this.#stores()
    if (this.#pin === undefined) return Rerun.open({ job, ...common }, stores)
    const pinned = await openPinnedJob(new Pins(state.pins), this.#pin, { registry, today: job, env: process.env })
    if (pinned.changed.length > 0)
      warn(`secrets are other ones than in the run: ${pinned.changed.join(', ')}; what is made with them differs`)
    const { evolved, locate, copies } = pinned
    return Rerun.open({ job: pinned.job, evolved, locate, copies, ...common }, stores)
  }

  #stores(): readonly JobLoader[] {
    const { job, wanted } = this.#options
    const ids = new Set(this.#items.flatMap(({ token }) => wanted.get(token) ?? []))
    return job.load.filter(({ id }) => ids.has(id))
  }

  async #openStores({ workshop, session, pipeline }: Rerun): Promise<ReadonlyMap<string, Loader>> {
    const loaders = new Map<string, Loader>()
    for (const { config, loader, unavailable } of workshop.loaders) {
      try {
        if (unavailable !== undefined) throw unavailable
        const columns = pipeline.outputs.get(config.input ?? 'main')?.relation.columns ?? []
        await loader.open({ engine: session, columns })
        loaders.set(config.id, loader)
      } catch (error) {
        if (!(error instanceof AdflowError)) throw error
        this.#down.set(config.id, error)
      }
    }
    return loaders
  }

  /** The stores that can, each by itself; the batch is done when all have it. */
  async #restore(item: RepeatedBatch, rerun: Rerun, loaders: ReadonlyMap<string, Loader>, job: Job): Promise<void> {
    const { past } = item
    const { wanted, ledger, backfill, restored } = this.#options
    const outcomes: Record<string, StoreOutcome> = {}
    let failure: AdflowError | undefined
    for (const config of job.load) {
      if (wanted.get(past.token)?.includes(config.id) !== true) continue
      const loader = loaders.get(config.id)
      try {
        const down = this.#down.get(config.id)
        if (loader === undefined || down !== undefined)
          throw down ?? new AdflowError('STORE_UNAVAILABLE', `store ${config.id} could not be opened`)
        outcomes[config.id] = await this.#bringBack(item, rerun, config, loader)
      } catch (error) {
        if (!(error instanceof AdflowError)) throw error
        if (error.retryable) this.#down.set(config.id, error)
        failure ??= error
      }
    }
    if (Object.keys(outcomes).length > 0) restored(past, outcomes)
    if (failure !== undefined) {
      this.#left.set(past.token, { past, code: failure.code, message: failure.message })
      return
    }
    const { token, source, lane, from, to } = past
    await ledger.append([{ type: 'batch_restored', backfill, token, source, lane, from, to, stores: outcomes }])
    this.#done.add(token)
  }

  async #bringBack(item: RepeatedBatch, rerun: Rerun, config: JobLoader, loader: Loader): Promise<StoreOutcome> {
    const { past: all, job } = this.#options
    const { past } = item
    const token = tokenIn(past, job.name, config)
    const own = config.input === undefined || config.input === 'main' ? {} : { token }
    // Killed after the store had it, or somebody else was quicker.
    const held = (await loader.holdings?.([token], { engine: rerun.session }))?.get(token)
    const expected = rowsIn(past, config, rerun.pipeline)
    if (held?.remembered === true && held.rows !== undefined && (expected === undefined || held.rows === expected))
      return { rows: held.rows, status: 'repeated', outputs: [], ...own }
    if (held?.remembered === true && held.rows === undefined)
      return { rows: expected ?? 0, status: 'repeated', outputs: [], ...own }
    const batch = loadBatchOf(item, rerun, job.name, { id: config.id, input: config.input ?? 'main', token })
    const later = all.slice(all.findIndex((other) => other.token === past.token) + 1)
    const newer = later.map((other) => tokenIn(other, job.name, config))
    // A batch is written whole: stopping in the middle of it would leave nothing to gain.
    const receipt = await loader.restore?.(batch, { signal: new AbortController().signal, newer })
    if (receipt === undefined)
      throw new AdflowError('STORE_MISMATCH', `store ${config.id} takes no batches of the past`)
    return { rows: receipt.rows, status: receipt.repeated ? 'repeated' : 'loaded', outputs: receipt.outputs, ...own }
  }

  #refuse(past: PastBatch, rows: number): void {
    const what = `${past.lane} [${past.from}, ${past.to}) gave ${past.rows} rows, and gives ${rows === past.rows ? 'other ones' : rows} now`
    const message = `${what}: the memory of the job's steps cannot be brought back to where it was, or this adflow decides otherwise`
    this.#left.set(past.token, { past, code: 'UNACCOUNTED', message })
  }
}
