/**
 * The loop: chunks of every source, several batches under way, each through plan → refine → quarantine → stores → ledger →
 * checkpoint → acknowledge. A kill between any two of these leaves the plan: the same range comes again under the same
 * token, and the stores refuse what they have.
 */
import type { Chunk, Loader, Range } from '../core/contracts.ts'
import { mayGoOn, settled } from '../core/durable-copy.ts'
import type { AdflowError } from '../core/errors.ts'
import { IDLE_SOURCE, idleClock } from '../core/idle.ts'
import { tokenOf } from '../core/token.ts'
import { Turnstile } from '../core/turnstile.ts'
import type { Session } from '../engine/session.ts'
import type { StoreOutcome } from '../lineage/events.ts'
import { type Batch, type BatchesOptions, infoOf, placeOf, type Source } from './batch.ts'
import { Books } from './books.ts'
import { BrokenLanes, isSourceFault } from './broken-lanes.ts'
import { Budgets } from './budgets.ts'
import { isDataError } from './chain.ts'
import type { PlannedBatch } from './checkpoint-slot.ts'
import { deliver } from './deliver.ts'
import { shelve } from './distribution.ts'
import { Encoders } from './encoders.ts'
import { Evolution } from './evolve.ts'
import { FreeMemory, keepHeapSmall } from './free-memory.ts'
import { forgetMarks, removeQuarantine } from './orphans.ts'
import { writeQuarantine } from './quarantine.ts'
import { Reading } from './reading.ts'
import {
  directBooks,
  type Refined,
  type RefineOptions,
  refine,
  refineDirect,
  type Streamed,
  streamsTo,
} from './refine.ts'
import { BatchState, type State } from './states.ts'
import { Tracker } from './tracker.ts'
import { cannotBeRepeated, hasChanged, isNowhere, isWhole, WholeChunks } from './whole-chunks.ts'

/** Statements that look at all of a table cost as much as those of a small batch: tables of steps are swept in the first batch, and in every
 *  so many after it. */
const SWEEP_BATCHES = 50

export class Batches {
  readonly #options: BatchesOptions
  readonly #stop = new AbortController()
  readonly #order = new Turnstile()
  readonly #trackers = new Map<string, Tracker>()
  readonly #consumers: ReadonlyMap<string, number>
  readonly #budgets: Budgets
  readonly #evolution: Evolution
  readonly #books: Books
  readonly #free: FreeMemory
  #refined = 0
  /** Sources whose last chunk was damaged: the next one probably is. */
  readonly #damaged = new Set<string>()
  /** Sources whose last chunk was not clean throughout. */
  readonly #unclean = new Set<string>()
  /** Where a clean batch can be streamed into the one store straight from its bytes. */
  readonly #direct: Loader['streams']
  readonly #encoders: Encoders
  readonly #broken = new BrokenLanes()
  readonly #whole: WholeChunks
  readonly #reading: Reading
  #failure: unknown

  constructor(options: BatchesOptions) {
    this.#options = options
    const consumers = new Map<string, number>()
    const readers = [...options.stores.map(({ input }) => input), ...(options.outbox?.outputs ?? [])]
    for (const output of readers) consumers.set(output, (consumers.get(output) ?? 0) + 1)
    this.#consumers = consumers
    this.#direct = options.outbox === undefined ? streamsTo(options.stores, options.workshop.pipeline) : undefined
    this.#encoders = new Encoders(options.workshop.engine, options.job.resources)
    this.#whole = new WholeChunks(options.job.resources.wholeFileBytes)
    this.#budgets = new Budgets(options.job, options.saver, options.warn)
    this.#evolution = new Evolution(options)
    this.#free = new FreeMemory(options.workshop.engine, options.forever ? 'forever' : 'once')
    this.#books = new Books({
      ...options,
      trackers: this.#trackers,
      budgets: this.#budgets,
      pipeline: () => this.#evolution.pipeline,
    })
    this.#reading = new Reading({
      ...options,
      whole: this.#whole,
      broken: this.#broken,
      takesWhole: this.#direct === 'sources',
      stop: this.#stop.signal,
      entered: ({ config: { id } }) => this.#trackers.set(id, new Tracker(options.saver.state.sources[id] ?? {})),
      gap: ({ config }, gap) => this.#books.gap(config, gap),
      process: (source, chunk, session) =>
        // Nobody waits for it yet when it fails: the process would end at once.
        this.#process(this.#plan(source, chunk, session)).catch((error: unknown) => this.fail(error)),
      forget: ({ config }) => this.#forgetBrokenPlans(config.id),
      settle: ({ config }) => this.#settle(config.id),
      fail: (error) => this.fail(error),
    })
    options.drain?.addEventListener('abort', () => this.#stop.abort(), { once: true })
    if (options.drain?.aborted === true) this.#stop.abort()
  }

  /** Every source to its end, or until the run is told to stop. Rejects with the first failure, after what was under way. */
  async readAll(): Promise<void> {
    keepHeapSmall()
    await this.#reading.all()
    await this.#free.idle()
    await this.#forgetBrokenPlans()
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Nothing new is read, and readAll() rejects with it. */
  fail(error: unknown): void {
    this.#failure ??= error
    this.#stop.abort()
  }

  /** After a failure nobody knows how far the source got. */
  async #settle(source: string): Promise<void> {
    if (this.#failure === undefined) await this.#options.gaps.settle(source)
  }

  /** Fixes the edges of the batch. A range that was planned before a crash keeps its sequence and its clock. */
  #plan(source: Source, chunk: Chunk, session: Session): Batch {
    const { saver, stores } = this.#options
    const { range, mark } = chunk
    const id = source.config.id
    this.#trackers.get(id)?.start({ ...range, ...(mark === undefined ? {} : { mark }) })
    const same = (batch: PlannedBatch) =>
      batch.source === id && batch.lane === range.lane && batch.from === range.from && batch.to === range.to
    const before = saver.state.planned.find(same)
    const references = this.#options.workshop.references.hold(before?.references)
    const plan: PlannedBatch = before ?? {
      ...range,
      ...(mark === undefined ? {} : { mark }),
      source: id,
      sequence: saver.state.sequence,
      clock: id === IDLE_SOURCE ? idleClock(range) : new Date().toISOString(),
      ...(references === undefined ? {} : { references }),
    }
    const planned =
      before === undefined
        ? saver.update((draft) => {
            this.#broken.planned(plan.sequence)
            draft.planned.push(plan)
            draft.sequence = String(BigInt(draft.sequence) + 1n)
          })
        : Promise.resolve()
    planned.catch(() => undefined) // awaited in #process; a failure before that must not be an unhandled one
    const token = this.#tokenOf(id, range)
    const moves: { state: State; before: State }[] = []
    return {
      source,
      chunk,
      begunMs: performance.now(),
      plan,
      repeated: before !== undefined,
      references,
      token,
      planned,
      session,
      leave: once(() => this.#options.workshop.sessions.release(session)),
      turn: this.#order.take(),
      storeTurns: new Map(stores.filter((store) => store.ordered).map((store) => [store.id, store.turns.take()])),
      state: new BatchState(token, (state, previous) => moves.push({ state, before: previous })),
      moves,
    }
  }

  async #process(batch: Batch): Promise<void> {
    try {
      // A run that ends gives back what batches have left before the next one: after the last, all of it goes with the process.
      if (!this.#options.forever) await this.#free.look()
      if (this.#failure === undefined) await this.#encoders.with(() => this.#throughStages(batch))
    } catch (error) {
      if (isSourceFault(error)) await this.#bookFault(batch, error)
      else {
        this.fail(error)
        await this.#books.failure(batch, error)
      }
    } finally {
      batch.turn.done()
      for (const turn of batch.storeTurns.values()) turn.done()
      this.#options.workshop.references.release(batch.references)
      batch.leave()
      await batch.chunk.release()
    }
    if (this.#options.forever) await this.#free.look()
  }

  async #throughStages(batch: Batch): Promise<void> {
    batch.state.move('validation.pending', 'validation.running')
    await this.#options.workshop.references.show(batch.session, batch.references)
    if (isWhole(batch.chunk)) return this.#throughWhole(batch)
    await this.#lookAt(batch)
  }

  /** Clean throughout, or not at all. One that some store may have already is looked at like any other. */
  async #throughWhole(batch: Batch): Promise<void> {
    const { chunk, session, source, token } = batch
    const { stores, workshop } = this.#options
    await batch.planned
    if (batch.repeated && !(await isNowhere(token, stores, session))) {
      if ((await chunk.counted?.(true)) === false) throw cannotBeRepeated(chunk)
      return this.#lookAt(batch)
    }
    if (this.#whole.largest(source.config.id) === 0) return this.#giveUp(batch)
    const encoded = () => this.#reading.isLast && this.#free.begin()
    const streamed = { ...(await refineDirect(chunk, this.#refineOptions(batch))), encoded }
    // Beside the store's work: once it is through, nothing else keeps the machine busy.
    const books = chunk
      .counted?.()
      .then((clean) => (clean ? directBooks(chunk, streamed, workshop.session) : undefined))
    books?.catch(() => undefined) // what failed is told by the store's own wait for the count
    let outcomes: Record<string, StoreOutcome>
    try {
      outcomes = await this.#deliver(batch, streamed)
    } catch (error) {
      if (!isDataError(error) && !hasChanged(error)) throw error
      return this.#giveUp(batch)
    }
    const refined = (await books) ?? (await directBooks(chunk, streamed, session))
    if (this.#budgets.active) {
      await this.#inTurn(batch)
      this.#budgets.charge(refined.counts)
    }
    await this.#close(batch, refined, outcomes)
  }

  /** Nothing of it is visible anywhere: its plan goes, and its source is read again in ordinary chunks. */
  async #giveUp({ plan, source, token }: Batch): Promise<void> {
    const { job, saver, state, workshop } = this.#options
    await workshop.engine.shareAmong(job.resources.inFlight)
    await removeQuarantine(state, [token])
    await saver.update((draft) => {
      draft.planned = draft.planned.filter(({ sequence }) => sequence !== plan.sequence)
    })
    this.#unclean.add(source.config.id)
    this.#whole.giveUp(source.config.id)
  }

  async #lookAt(batch: Batch): Promise<void> {
    const { phases } = this.#options
    let refined = await phases.measure('refine', () => this.#refine(batch, 'streamed'))
    this.#ensureGoing(batch)
    await phases.measure('plan', () => batch.planned)
    if (batch.repeated) await this.#books.checkHeld(batch, refined)
    if (refined.quarantine.length > 0) await this.#quarantine(batch, refined)
    let outcomes: Record<string, StoreOutcome>
    try {
      outcomes = await phases.measure('stores', () => this.#deliver(batch, refined))
    } catch (error) {
      if (!refined.streamed || !isDataError(error)) throw error
      // A record or an expression failed while the store evaluated it: look at the records, or hand the rest over in tables.
      refined = await this.#refine(batch, refined.direct ? 'looked at' : 'guarded')
      if (refined.quarantine.length > 0) await this.#quarantine(batch, refined)
      outcomes = await this.#deliver(batch, refined)
    }
    await this.#close(batch, refined, outcomes)
  }

  async #close(batch: Batch, refined: Refined, outcomes: Record<string, StoreOutcome>): Promise<void> {
    const waits = await shelve(batch, refined, this.#options, this.#evolution.pipeline)
    batch.leave()
    batch.state.move(refined.quarantine.length > 0 ? 'validation.partial' : 'validation.passed')
    batch.state.move('transformation.pending', 'transformation.running', 'transformation.completed')
    batch.state.move('storage.pending', 'storage.running')
    const owed = Object.values(outcomes).some((outcome) => outcome.status === 'owed')
    batch.state.move(
      ...(owed
        ? (['storage.failed', 'storage.retry'] as const)
        : (['storage.completed', waits ? 'distribution.pending' : 'done'] as const)),
    )
    await this.#books.close(batch, refined, outcomes)
    this.#options.phases.add('batch', performance.now() - batch.begunMs)
    for (const { message } of refined.warnings) this.#options.warn(message)
  }

  /** Steps with state, evolving contracts and budgets see the batches one after the other. */
  async #inTurn(batch: Batch): Promise<void> {
    await batch.turn.ready
    this.#ensureGoing(batch)
    await batch.planned
  }

  #refineOptions({ session, source, plan, token }: Batch): RefineOptions {
    return {
      session,
      pipeline: this.#evolution.pipeline,
      token,
      source: source.config.id,
      clock: plan.clock,
      chunkDir: this.#options.state.chunks,
      expectDamage: this.#damaged.has(source.config.id),
      consumers: this.#consumers,
      baseline: this.#books.baseline(),
      guarded: false,
      sweep: false,
    }
  }

  async #refine(batch: Batch, how: 'streamed' | 'looked at' | 'guarded'): Promise<Refined> {
    const { chunk, session } = batch
    const id = batch.source.config.id
    if (this.#evolution.active) await this.#inTurn(batch)
    await this.#evolution.takeUp(chunk, session, this.#options.stores)
    const turn = this.#evolution.pipeline.stateful ? { turn: () => this.#inTurn(batch) } : {}
    const sweep = this.#refined % SWEEP_BATCHES === 0
    this.#refined += 1
    const options = { ...this.#refineOptions(batch), guarded: how === 'guarded', sweep, ...turn }
    const clean = !this.#unclean.has(id) && chunk.refused.length === 0 && !batch.repeated
    const direct = how === 'streamed' && this.#direct !== undefined && clean
    if (direct) await this.#encoders.share()
    const refined = direct
      ? await directBooks(chunk, await refineDirect(chunk, options), session)
      : await refine(chunk, options)
    if (!direct && refined.rows < chunk.records) this.#unclean.add(id)
    else if (!direct) this.#unclean.delete(id)
    if (refined.damaged) this.#damaged.add(id)
    else this.#damaged.delete(id)
    if (this.#budgets.active && how !== 'guarded') {
      await this.#inTurn(batch)
      // The records were charged when the store was to read them by itself.
      this.#budgets.charge(how === 'looked at' ? { ...refined.counts, read: 0 } : refined.counts)
    }
    batch.turn.done()
    return refined
  }

  /** What the batches have left behind goes before their plans: after a kill in between they are repeated exactly. */
  async #forgetBrokenPlans(only?: string): Promise<void> {
    if (this.#broken.none) return
    const { saver, state, workshop } = this.#options
    const binding = new Set(this.#broken.binding(saver.state.planned))
    const goes = (plan: PlannedBatch) => !binding.has(plan) && (only === undefined || plan.source === only)
    const tokens = saver.state.planned.filter(goes).map((plan) => this.#tokenOf(plan.source, plan))
    if (workshop.pipeline.stateful) await forgetMarks(workshop.session, tokens)
    await removeQuarantine(state, tokens)
    await saver.update((draft) => {
      draft.planned = draft.planned.filter((plan) => !goes(plan))
    })
    if (only !== undefined) this.#broken.mended(only)
  }

  #tokenOf(source: string, range: Range): string {
    return tokenOf({ job: this.#options.job.name, source, range, epoch: this.#options.saver.state.epoch })
  }

  async #deliver(batch: Batch, refined: Streamed): Promise<Record<string, StoreOutcome>> {
    const offered = () => this.#broken.offered(batch.plan.sequence)
    const going = () => this.#ensureGoing(batch)
    // Marks that are lost after a store has the rows would let the same rows through again.
    if (this.#evolution.pipeline.stateful) await settled(this.#options.state.path)
    if (!refined.direct) return deliver(batch, refined, this.#options, going, offered)
    try {
      const outcomes = await deliver(batch, refined, this.#options, going, () => undefined)
      offered()
      return outcomes
    } catch (error) {
      // Of a batch that is streamed nothing is there when its own data stops it.
      if (!isDataError(error)) offered()
      throw error
    }
  }

  #ensureGoing({ source, chunk }: Batch): void {
    if (this.#failure !== undefined) throw this.#failure
    mayGoOn(this.#options.state.path)
    const broken = this.#broken.get(placeOf(source, chunk))
    if (broken !== undefined) throw broken
  }

  /** The range stays planned, and nothing of its lane after it is loaded before it; the other lanes go on. */
  async #bookFault({ source, chunk }: Batch, error: AdflowError): Promise<void> {
    if (!this.#broken.add(placeOf(source, chunk), error)) return
    this.#reading.interrupt(source)
    const message = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`
    await this.#books.gap(source.config, { gap: chunk.range, origin: chunk.origin, code: error.code, message })
  }

  async #quarantine(batch: Batch, refined: Refined): Promise<void> {
    const { job, state } = this.#options
    await writeQuarantine(
      state.quarantine,
      { ...infoOf(job.name, batch), origin: batch.chunk.origin },
      refined.quarantine,
    )
  }
}

function once(work: () => void): () => void {
  let done = false
  return () => {
    if (!done) work()
    done = true
  }
}
