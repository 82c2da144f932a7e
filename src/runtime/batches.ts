/**
 * The loop: chunks of every source, several batches under way, each through plan → refine → quarantine → stores → ledger →
 * checkpoint → acknowledge. A kill between any two of these leaves the plan: the same range comes again under the same
 * token, and the stores refuse what they have.
 */
import type { Logger } from 'pino'
import type { Chunk, Gap, Positions, ReadContext } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobExtractor } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import { tokenOf } from '../core/token.ts'
import { type Turn, Turnstile } from '../core/turnstile.ts'
import type { Session } from '../engine/session.ts'
import type { StoreOutcome } from '../lineage/events.ts'
import type { Ledger } from '../lineage/ledger.ts'
import { Budgets } from './budgets.ts'
import { isDataError } from './chain.ts'
import type { PlannedBatch } from './checkpoint-slot.ts'
import { Evolution } from './evolve.ts'
import type { GroupSaver } from './group-saver.ts'
import { writeQuarantine } from './quarantine.ts'
import { canStream, type Refined, refine, refineDirect } from './refine.ts'
import type { RunObserver } from './run.ts'
import type { StateDir } from './state-dir.ts'
import { BatchState, type State } from './states.ts'
import type { Delivery, Store } from './store.ts'
import { addBatch, type RunSummary } from './summary.ts'
import { Tracker } from './tracker.ts'
import type { Workshop } from './workshop.ts'

export interface BatchesOptions {
  readonly job: Job
  readonly registry: Registry
  readonly state: StateDir
  readonly ledger: Ledger
  readonly saver: GroupSaver
  readonly stores: readonly Store[]
  readonly workshop: Workshop
  readonly summary: RunSummary
  readonly log: Logger
  readonly modified?: { readonly from?: number; readonly to?: number }
  readonly drain?: AbortSignal
  readonly observer?: RunObserver
  warn(text: string): void
}

type Source = Workshop['extractors'][number]

interface Batch {
  readonly source: Source
  readonly chunk: Chunk
  readonly plan: PlannedBatch
  readonly token: string
  /** The plan is on disk: the range will be retried exactly. */
  readonly planned: Promise<void>
  readonly session: Session
  /** Order of the batches, for work that must keep it. */
  readonly turn: Turn
  readonly storeTurns: ReadonlyMap<string, Turn>
  readonly state: BatchState
  readonly moves: { readonly state: State; readonly before: State }[]
}

export class Batches {
  readonly #options: BatchesOptions
  readonly #stop = new AbortController()
  readonly #order = new Turnstile()
  readonly #trackers = new Map<string, Tracker>()
  readonly #consumers: ReadonlyMap<string, number>
  readonly #budgets: Budgets
  readonly #evolution: Evolution
  /** Sources whose last chunk was damaged: the next one probably is. */
  readonly #damaged = new Set<string>()
  /** Sources whose last chunk was not clean throughout. */
  readonly #unclean = new Set<string>()
  /** The one store, where a clean batch can be streamed into it straight from its bytes. */
  readonly #direct: boolean
  /** Lanes of which a range turned out to be damaged, with what was found. */
  readonly #broken = new Map<string, AdflowError>()
  #failure: unknown

  constructor(options: BatchesOptions) {
    this.#options = options
    const consumers = new Map<string, number>()
    for (const { input } of options.stores) consumers.set(input, (consumers.get(input) ?? 0) + 1)
    this.#consumers = consumers
    const [only, ...others] = options.stores
    this.#direct =
      others.length === 0 &&
      only?.loader.streams === true &&
      only.input === 'main' &&
      canStream(options.workshop.pipeline)
    this.#budgets = new Budgets(options.job, options.saver, options.warn)
    this.#evolution = new Evolution(options)
    options.drain?.addEventListener('abort', () => this.#stop.abort(), { once: true })
    if (options.drain?.aborted === true) this.#stop.abort()
  }

  async survey(): Promise<void> {
    const { workshop, observer } = this.#options
    if (observer?.surveyed === undefined) return
    let bytesLeft = 0
    let lanes = 0
    for (const { config, extractor } of workshop.extractors)
      for (const lane of await extractor.survey(this.#positions(config.id))) {
        bytesLeft += lane.bytesLeft
        lanes += lane.bytesLeft > 0 ? 1 : 0
      }
    observer.surveyed({ bytesLeft, lanes })
  }

  /** Every source to its end, in the order of their priority. Rejects with the first failure, after what was under way. */
  async readAll(): Promise<void> {
    const underWay = new Set<Promise<void>>()
    for (const source of this.#options.workshop.extractors) {
      if (this.#stop.signal.aborted) break
      await this.#read(source, underWay)
    }
    await Promise.all(underWay)
    if (this.#failure !== undefined) throw this.#failure
  }

  async #read(source: Source, underWay: Set<Promise<void>>): Promise<void> {
    const { workshop } = this.#options
    this.#trackers.set(source.config.id, new Tracker(this.#positions(source.config.id)))
    for await (const item of source.extractor.read(this.#readContext(source.config))) {
      if ('gap' in item) {
        await this.#bookGap(source.config, item)
        continue
      }
      const session = await workshop.sessions.acquire()
      if (this.#broken.has(laneKey(source, item))) {
        workshop.sessions.release(session)
        await item.release()
        continue
      }
      if (this.#stop.signal.aborted) {
        workshop.sessions.release(session)
        await item.release()
        return
      }
      const task = this.#process(this.#plan(source, item, session)).finally(() => underWay.delete(task))
      underWay.add(task)
    }
  }

  #readContext(config: JobExtractor): ReadContext {
    const { job, saver, modified } = this.#options
    const { chunkBytes, maxRecordBytes, parallel } = job.resources
    return {
      from: this.#positions(config.id),
      planned: saver.state.planned.filter((batch) => batch.source === config.id),
      until: 'now',
      chunkBytes,
      maxRecordBytes,
      parallel,
      signal: this.#stop.signal,
      ...(modified === undefined ? {} : { modified }),
    }
  }

  #positions(source: string): Positions {
    return this.#options.saver.state.sources[source] ?? {}
  }

  /** Fixes the edges of the batch. A range that was planned before a crash keeps its sequence and its clock. */
  #plan(source: Source, chunk: Chunk, session: Session): Batch {
    const { job, saver, stores } = this.#options
    const { range, mark } = chunk
    const id = source.config.id
    this.#trackers.get(id)?.start({ ...range, ...(mark === undefined ? {} : { mark }) })
    const same = (batch: PlannedBatch) =>
      batch.source === id && batch.lane === range.lane && batch.from === range.from && batch.to === range.to
    const before = saver.state.planned.find(same)
    const plan: PlannedBatch = before ?? {
      ...range,
      ...(mark === undefined ? {} : { mark }),
      source: id,
      sequence: saver.state.sequence,
      clock: new Date().toISOString(),
    }
    const planned =
      before === undefined
        ? saver.update((draft) => {
            draft.planned.push(plan)
            draft.sequence = String(BigInt(draft.sequence) + 1n)
          })
        : Promise.resolve()
    planned.catch(() => undefined) // awaited in #process; a failure before that must not be an unhandled one
    const token = tokenOf({ job: job.name, source: id, range, epoch: saver.state.epoch })
    const moves: { state: State; before: State }[] = []
    return {
      source,
      chunk,
      plan,
      token,
      planned,
      session,
      turn: this.#order.take(),
      storeTurns: new Map(stores.filter((store) => store.ordered).map((store) => [store.id, store.turns.take()])),
      state: new BatchState(token, (state, previous) => moves.push({ state, before: previous })),
      moves,
    }
  }

  async #process(batch: Batch): Promise<void> {
    const { workshop } = this.#options
    try {
      if (this.#failure === undefined) await this.#throughStages(batch)
    } catch (error) {
      if (isSourceFault(error)) await this.#bookFault(batch, error)
      else {
        this.#failure ??= error
        this.#stop.abort()
        await this.#bookFailure(batch, error)
      }
    } finally {
      batch.turn.done()
      for (const turn of batch.storeTurns.values()) turn.done()
      workshop.sessions.release(batch.session)
      await batch.chunk.release()
    }
  }

  async #throughStages(batch: Batch): Promise<void> {
    batch.state.move('validation.pending', 'validation.running')
    let refined = await this.#refine(batch, 'streamed')
    this.#ensureGoing(batch)
    await batch.planned
    if (refined.quarantine.length > 0) await this.#quarantine(batch, refined)
    let outcomes: Record<string, StoreOutcome>
    try {
      outcomes = await this.#store(batch, refined)
    } catch (error) {
      if (!refined.streamed || !isDataError(error)) throw error
      // A record or an expression failed while the store evaluated it: look at the records, or hand the rest over in tables.
      refined = await this.#refine(batch, refined.direct ? 'looked at' : 'guarded')
      if (refined.quarantine.length > 0) await this.#quarantine(batch, refined)
      outcomes = await this.#store(batch, refined)
    }
    batch.state.move(refined.quarantine.length > 0 ? 'validation.partial' : 'validation.passed')
    batch.state.move('transformation.pending', 'transformation.running', 'transformation.completed')
    batch.state.move('storage.pending', 'storage.running')
    const owed = Object.values(outcomes).some((outcome) => outcome.status === 'owed')
    batch.state.move(
      ...(owed ? (['storage.failed', 'storage.retry'] as const) : (['storage.completed', 'done'] as const)),
    )
    await this.#close(batch, refined, outcomes)
    for (const text of refined.warnings) this.#options.warn(text)
  }

  /** A batch that a rule stopped stays planned; the ledger says why it stands where it stands. */
  async #bookFailure({ source, chunk, token }: Batch, error: unknown): Promise<void> {
    if (!(error instanceof AdflowError) || error.code !== 'DATA_REJECTED') return
    const rule = String(error.details?.['rule'] ?? 'budget')
    const where = { token, source: source.config.id, ...chunk.range }
    await this.#options.ledger.append([
      { type: 'batch_moved', ...where, state: 'validation.failed', before_state: 'validation.running' },
      { type: 'rule_failed', ...where, rule, message: redact(error.message) },
    ])
  }

  /** Steps with state, evolving contracts and budgets see the batches one after the other. */
  async #refine(batch: Batch, how: 'streamed' | 'looked at' | 'guarded'): Promise<Refined> {
    const { state, stores } = this.#options
    const { chunk, session, token, plan } = batch
    const id = batch.source.config.id
    const turn = async (): Promise<void> => {
      await batch.turn.ready
      this.#ensureGoing(batch)
      await batch.planned
    }
    if (this.#evolution.active) await turn()
    await this.#evolution.takeUp(chunk, session, stores)
    const options = {
      session,
      pipeline: this.#evolution.pipeline,
      token,
      clock: plan.clock,
      chunkDir: state.chunks,
      expectDamage: this.#damaged.has(id),
      consumers: this.#consumers,
      baseline: this.#baseline(),
      guarded: how === 'guarded',
      ...(this.#evolution.pipeline.stateful ? { turn } : {}),
    }
    const direct = how === 'streamed' && this.#direct && !this.#unclean.has(id) && chunk.refused.length === 0
    const refined = await (direct ? refineDirect(chunk, options) : refine(chunk, options))
    if (!direct && refined.rows < chunk.records) this.#unclean.add(id)
    else if (!direct) this.#unclean.delete(id)
    if (refined.damaged) this.#damaged.add(id)
    else this.#damaged.delete(id)
    if (this.#budgets.active && how !== 'guarded') {
      await turn()
      this.#budgets.charge(refined.counts)
    }
    batch.turn.done()
    return refined
  }

  #ensureGoing({ source, chunk }: Batch): void {
    if (this.#failure !== undefined) throw this.#failure
    const broken = this.#broken.get(laneKey(source, chunk))
    if (broken !== undefined) throw broken
  }

  /** The range stays planned, and nothing of its lane after it is loaded before it; the other lanes go on. */
  async #bookFault({ source, chunk }: Batch, error: AdflowError): Promise<void> {
    const key = laneKey(source, chunk)
    if (this.#broken.has(key)) return
    this.#broken.set(key, error)
    const message = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`
    await this.#bookGap(source.config, { gap: chunk.range, origin: chunk.origin, code: error.code, message })
  }

  async #quarantine({ chunk, plan, token, source }: Batch, refined: Refined): Promise<void> {
    await writeQuarantine(
      this.#options.state.quarantine,
      { ...this.#info(source.config.id, chunk, plan, token), origin: chunk.origin },
      refined.quarantine,
    )
  }

  #info(source: string, chunk: Chunk, plan: PlannedBatch, token: string) {
    return { job: this.#options.job.name, source, range: chunk.range, token, digest: chunk.digest, clock: plan.clock }
  }

  /** One attempt at every store first, then the pauses: a store in trouble does not hold up the others. */
  async #store(batch: Batch, refined: Refined): Promise<Record<string, StoreOutcome>> {
    const outcomes: Record<string, StoreOutcome> = {}
    const later: { store: Store; delivery: Delivery; error: AdflowError }[] = []
    for (const store of this.#options.stores) {
      await batch.storeTurns.get(store.id)?.ready
      this.#ensureGoing(batch)
      const delivery = this.#delivery(batch, refined, store)
      if (store.down !== undefined) {
        outcomes[store.id] = await store.owe(delivery, batch.session)
        continue
      }
      const outcome = await store.attempt(delivery, batch.session)
      if (!(outcome instanceof AdflowError)) outcomes[store.id] = outcome
      else if (refined.streamed && isDataError(outcome)) throw outcome
      else later.push({ store, delivery, error: outcome })
    }
    for (const { store, delivery, error } of later)
      outcomes[store.id] = await store.persist(delivery, batch.session, error)
    return outcomes
  }

  #delivery({ source, chunk, plan, token }: Batch, refined: Refined, store: Store): Delivery {
    const output = refined.outputs.get(store.input)
    if (output === undefined) throw new AdflowError('UNEXPECTED', `there is no output ${store.input} for ${store.id}`)
    const main = store.input === 'main'
    const parts = {
      job: this.#options.job.name,
      source: source.config.id,
      range: chunk.range,
      epoch: this.#options.saver.state.epoch,
    }
    return {
      ...this.#info(source.config.id, chunk, plan, main ? token : tokenOf({ ...parts, output: store.input })),
      sequence: plan.sequence,
      origin: chunk.origin,
      batch: token,
      columns: output.columns,
      relation: output.relation,
      ...(refined.direct ? { expected: refined.rows, verify: async () => chunk.verify?.() } : {}),
    }
  }

  /** Books closed and durable, then the position, then the source. */
  async #close(batch: Batch, refined: Refined, stores: Record<string, StoreOutcome>): Promise<void> {
    const { ledger, saver, summary, observer } = this.#options
    const { chunk, plan, token, source } = batch
    const id = source.config.id
    this.#checkLoaded(batch, refined, stores)
    const where = { token, source: id, ...chunk.range }
    await ledger.append([
      ...batch.moves.map(({ state, before }) => ({
        type: 'batch_moved' as const,
        ...where,
        state,
        before_state: before,
      })),
      {
        type: 'batch_closed',
        ...where,
        sequence: plan.sequence,
        origin: chunk.origin,
        digest: chunk.digest,
        bytes: chunk.bytes,
        counts: refined.counts,
        sums: refined.sums,
        stores,
        unaccounted: 0,
      },
    ])
    const position = this.#trackers.get(id)?.finish(chunk.range)
    await saver.update((draft) => {
      draft.planned = draft.planned.filter((other) => other.sequence !== plan.sequence)
      const lanes = { ...draft.sources[id] }
      if (position !== undefined) {
        const loaders = this.#behind(id, chunk.range.lane)
        lanes[chunk.range.lane] = { ...position, ...(Object.keys(loaders).length === 0 ? {} : { loaders }) }
      }
      draft.sources[id] = lanes
      draft.extra = { ...draft.extra, ...this.#budgets.memory(), baseline: this.#nextBaseline(refined.rows) }
    })
    await source.extractor.commit?.(this.#positions(id))
    addBatch(summary, { counts: refined.counts, rows: refined.rows, bytes: chunk.bytes, stores })
    observer?.batchClosed?.(summary)
  }

  /** A store that holds another number of rows than it was given has lost or doubled some. */
  #checkLoaded({ chunk }: Batch, refined: Refined, stores: Record<string, StoreOutcome>): void {
    for (const store of this.#options.stores) {
      const outcome = stores[store.id]
      const output = this.#evolution.pipeline.outputs.get(store.input)
      if (outcome === undefined || output?.kind !== 'row' || outcome.rows === refined.rows) continue
      throw new AdflowError(
        'UNACCOUNTED',
        `store ${store.id} took ${outcome.rows} of ${refined.rows} rows of ${chunk.range.lane} [${chunk.range.from}, ${chunk.range.to})`,
        { hint: `the batch is not acknowledged; its token in the store is ${chunk.digest}` },
      )
    }
  }

  /** Where stores that owe batches of the lane stand. */
  #behind(source: string, lane: string): Record<string, string> {
    const behind: Record<string, string> = {}
    for (const store of this.#options.stores) {
      const first = store.spool.owed.find((batch) => batch.source === source && batch.range.lane === lane)
      if (first !== undefined) behind[store.id] = first.range.from
    }
    return behind
  }

  #baseline(): number | undefined {
    const baseline = this.#options.saver.state.extra?.['baseline'] as { batches: number; rows: number } | undefined
    return baseline === undefined || baseline.batches === 0 ? undefined : baseline.rows / baseline.batches
  }

  #nextBaseline(rows: number): { batches: number; rows: number } {
    const before = (this.#options.saver.state.extra?.['baseline'] ?? { batches: 0, rows: 0 }) as {
      batches: number
      rows: number
    }
    return { batches: before.batches + 1, rows: before.rows + rows }
  }

  async #bookGap(config: JobExtractor, { gap, code, message }: Gap): Promise<void> {
    const { ledger, summary, log } = this.#options
    const booked = { source: config.id, ...gap, code, message: redact(message) }
    await ledger.append([{ type: 'gap', ...booked }])
    summary.gaps.push({ ...booked, optional: config.optional })
    log.warn({ source: config.id, lane: gap.lane, code }, message)
  }
}

function laneKey({ config }: Source, { range }: Chunk): string {
  return JSON.stringify([config.id, range.lane])
}

/** The extractor found these bytes in order, but the engine cannot read them, or they have changed meanwhile. */
function isSourceFault(error: unknown): error is AdflowError {
  return error instanceof AdflowError && (error.code === 'SOURCE_DAMAGED' || error.code === 'SOURCE_CHANGED')
}
