/**
 * The round: every source of a run is read at the same time, in the order of their priority, each item becoming a gap in the books or a
 * batch. No source waits for another that is slow, broken or dead. A run ends with its sources, or goes on for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pLimit, { type LimitFunction } from 'p-limit'
import type { Chunk, Gap, ReadContext } from '../core/contracts.ts'
import { AdflowError, EXIT } from '../core/errors.ts'
import { Room } from '../core/room.ts'
import type { SourceWatch } from '../core/source-watch.ts'
import { integerFields } from '../engine/integer-fields.ts'
import type { Session } from '../engine/session.ts'
import { type BatchesOptions, placeOf, type Source } from './batch.ts'
import type { BrokenLanes } from './broken-lanes.ts'
import { Idling } from './idling.ts'
import { SourceClock } from './source-clock.ts'
import { StallWatch } from './stall-watch.ts'
import { newSource, type SourceSummary } from './summary.ts'
import { isWhole, type WholeChunks } from './whole-chunks.ts'

/** For the question how much a source has that is elsewhere. */
const SURVEY_MS = 5000
/** Longest pause before a damaged lane of a run that goes on for ever is looked at again. */
const LONGEST_PAUSE_MS = 60_000

export interface ReadingOptions extends BatchesOptions {
  readonly whole: WholeChunks
  readonly broken: BrokenLanes
  /** Where whole files may be handed over. */
  readonly takesWhole: boolean
  /** Aborted: nothing new is read. */
  readonly stop: AbortSignal
  /** The source is about to be read from its positions. */
  readonly entered: (source: Source) => void
  readonly gap: (source: Source, gap: Gap) => Promise<void>
  /** Takes the edges of the batch at once, and its session until it resolves. Never rejects. */
  readonly process: (source: Source, chunk: Chunk, session: Session) => Promise<void>
  /** Nothing of the source is under way: what its damaged lanes have left behind goes. */
  readonly forget: (source: Source) => Promise<void>
  /** What is under way of the source is through: gaps that it has repaid are closed. */
  readonly settle: (source: Source) => Promise<void>
  readonly fail: (error: unknown) => void
}

export class Reading {
  readonly #options: ReadingOptions
  readonly #tasks: ReadonlyMap<string, SourceTask>
  /** For the bytes of batches whose session is free again, but whose books are open. */
  readonly #bytes: Room
  readonly #idling: Idling

  constructor(options: ReadingOptions) {
    this.#options = options
    const { workshop, forever, round, job, summary } = options
    const places = pLimit(forever ? Number.POSITIVE_INFINITY : (round?.parallel ?? job.resources.sources))
    for (const { config } of workshop.extractors) summary.sources[config.id] = newSource()
    this.#bytes = new Room((job.resources.inFlight + 1) * job.resources.chunkBytes)
    this.#idling = new Idling(options)
    this.#tasks = new Map(
      workshop.extractors.map((source) => [
        source.config.id,
        new SourceTask(source, options, places, this.#bytes, this.#idling),
      ]),
    )
  }

  /** Every source to its end, as far as it goes. Resolved: nothing is under way. Does not reject: see `fail`. */
  async all(): Promise<void> {
    const { observer, summary } = this.#options
    observer?.began?.(summary)
    await this.#idling.repeat()
    await this.#idling.beside(Promise.all([...this.#tasks.values()].map((task) => task.run())))
  }

  /** One batch is under way, and most likely no other one comes. */
  get isLast(): boolean {
    const tasks = [...this.#tasks.values()]
    return tasks.every(({ atEnd }) => atEnd) && tasks.reduce((sum, { batches }) => sum + batches, 0) === 1
  }

  /** A lane of the source is damaged: a run that goes on for ever begins it anew. */
  interrupt({ config }: Source): void {
    this.#tasks.get(config.id)?.interrupt()
  }
}

class SourceTask {
  readonly #source: Source
  readonly #options: ReadingOptions
  readonly #places: LimitFunction
  readonly #bytes: Room
  readonly #idling: Idling
  readonly #state: SourceSummary
  readonly #underWay = new Set<Promise<void>>()
  #interrupt = new AbortController()
  readonly #stalls: StallWatch | undefined
  /** The source has given all that it has now. */
  atEnd = false

  constructor(source: Source, options: ReadingOptions, places: LimitFunction, bytes: Room, idling: Idling) {
    this.#source = source
    this.#options = options
    this.#places = places
    this.#bytes = bytes
    this.#idling = idling
    this.#state = options.summary.sources[source.config.id] ?? newSource()
    this.#stalls = options.forever ? this.#stallWatch() : undefined
  }

  get batches(): number {
    return this.#underWay.size
  }

  interrupt(): void {
    if (this.#options.forever) this.#interrupt.abort()
  }

  async run(): Promise<void> {
    const { settle, fail, stop, forever } = this.#options
    let begunMs = performance.now()
    try {
      await this.#places(async () => {
        begunMs = performance.now()
        if (stop.aborted) return
        this.#state.state = 'fetching'
        await (forever ? this.#forever() : this.#read())
      })
      if (this.#underWay.size > 0) this.#state.state = 'loading'
      await Promise.all(this.#underWay)
      if (!stop.aborted) await settle(this.#source)
    } catch (error) {
      fail(error)
    } finally {
      await Promise.all(this.#underWay)
      this.#state.state = this.#state.gaps > 0 ? 'gap' : stop.aborted ? 'stopped' : 'done'
      this.#state.seconds = (performance.now() - begunMs) / 1000
    }
  }

  async #forever(): Promise<void> {
    const looking = setInterval(() => this.#stalls?.look(), this.#options.job.stream.stalledMs / 10)
    try {
      await this.#again()
    } finally {
      clearInterval(looking)
    }
  }

  #stallWatch(): StallWatch {
    const { job, gaps, stores, warn, fail } = this.#options
    const { config, extractor } = this.#source
    return new StallWatch({
      source: config.id,
      afterMs: job.stream.stalledMs,
      excused: () => gaps.owes(config.id) || stores.some(({ full }) => full),
      renew: () => {
        warn(`${config.id} has records to be read and gives none: its connections are made anew`)
        extractor.renew?.()
        this.interrupt()
      },
      fail,
    })
  }

  async #again(): Promise<void> {
    const { stop, forget, job, summary } = this.#options
    let pauseMs = job.retry.initialMs
    while (!stop.aborted) {
      const before = summary.batches
      await this.#read()
      await Promise.all(this.#underWay)
      if (stop.aborted) return
      await forget(this.#source)
      pauseMs = summary.batches > before ? job.retry.initialMs : Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
      await sleep(pauseMs, undefined, { signal: stop }).catch(() => undefined) // aborted: the loop ends
    }
  }

  async #read(): Promise<void> {
    const { whole, stop } = this.#options
    const { id } = this.#source.config
    do {
      this.atEnd = false
      await this.#once()
      this.atEnd = true
    } while (!stop.aborted && (await whole.mustReadAgain(id, this.#underWay)))
  }

  async #once(): Promise<void> {
    const { stop, entered, warn } = this.#options
    const clock = this.#clock()
    this.#interrupt = new AbortController()
    try {
      entered(this.#source)
      await this.#survey()
      await this.#take(clock, AbortSignal.any([stop, this.#interrupt.signal]))
      if (clock.ended.aborted) await this.#givenUp(clock)
    } catch (error) {
      // Of a source that was told to end only a fault of this machine says more than that.
      const own = error instanceof AdflowError && error.exit === EXIT.localIo
      if (clock.ended.aborted && !own) await this.#givenUp(clock)
      else if (clock.abandoned || (stop.aborted && mayPass(error))) warn((error as Error).message)
      else if (!stop.aborted || !isAbort(error)) throw error
    } finally {
      clock.close()
    }
  }

  /** A source that is asked for ever is silent most of the time; each of its lanes still has its time-out. */
  #clock(): SourceClock {
    const { round, forever } = this.#options
    const { config, extractor, silenceMs } = this.#source
    const limits = [round?.limitMs, config.timeLimitMs].filter((ms) => ms !== undefined)
    return new SourceClock({
      source: config.id,
      silenceMs: forever ? Number.POSITIVE_INFINITY : silenceMs,
      limitMs: forever || limits.length === 0 ? undefined : Math.min(...limits),
      replayable: extractor.replayable,
      stalled: (yes) => {
        if (!forever) this.#places.concurrency += yes ? 1 : -1
      },
    })
  }

  async #take(clock: SourceClock, stop: AbortSignal): Promise<void> {
    const context = this.#context(clock, AbortSignal.any([stop, clock.ended]))
    const iterator = this.#source.extractor.read(context)[Symbol.asyncIterator]()
    const drop = (late: IteratorResult<Chunk | Gap>) => {
      if (late.done !== true && !('gap' in late.value)) late.value.release().catch(() => undefined) // the folder is emptied at the next start
    }
    for (;;) {
      const next = await clock.next(() => iterator.next(), stop, drop)
      if (next.done === true) return
      try {
        if ('gap' in next.value) await this.#options.gap(this.#source, next.value)
        else if (!(await this.#begin(next.value))) return void (await iterator.return?.())
      } catch (error) {
        await iterator.return?.()
        throw error
      }
    }
  }

  /** false: nothing more is read. */
  async #begin(chunk: Chunk): Promise<boolean> {
    const { job, workshop, broken, stop, process, whole, phases, forever } = this.#options
    const { id, priority } = this.#source.config
    await workshop.references.ready(forever, stop)
    // A whole file is not in a folder of ours.
    const bytes = Math.min(chunk.bytes, job.resources.chunkBytes)
    const session = await phases.measure('session', async () => {
      await this.#bytes.enter(bytes)
      return workshop.sessions.acquire(priority)
    })
    const isBroken = broken.get(placeOf(this.#source, chunk)) !== undefined
    if (isBroken || stop.aborted) {
      workshop.sessions.release(session)
      this.#bytes.leave(bytes)
      await chunk.release()
      return isBroken
    }
    if (isWhole(chunk)) whole.begin(id)
    this.#idling.came()
    const through = process(this.#source, chunk, session).finally(() => {
      this.#idling.through()
      this.#bytes.leave(bytes)
      this.#underWay.delete(through)
      this.#stalls?.progressed()
    })
    this.#underWay.add(through)
    return true
  }

  #context(clock: SourceClock, signal: AbortSignal): ReadContext {
    const { job, saver, modified, past, forever, takesWhole, whole, workshop } = this.#options
    const { id } = this.#source.config
    const { chunkBytes, maxRecordBytes, parallel } = job.resources
    return {
      from: this.#positions,
      planned: saver.state.planned.filter((batch) => batch.source === id),
      until: past !== undefined ? {} : forever ? 'forever' : 'now',
      chunkBytes,
      ...(takesWhole ? { wholeBytes: () => whole.largest(id) } : {}),
      ...(forever ? { flushMs: job.stream.flushMs, room: () => workshop.sessions.free() } : {}),
      maxRecordBytes,
      integers: integerFields(job.columns),
      parallel,
      signal,
      watch: this.#watch(clock),
      ...(modified === undefined ? {} : { modified }),
    }
  }

  #watch(clock: SourceClock): SourceWatch {
    return {
      silenceMs: this.#source.silenceMs,
      givenUp: clock.givenUp,
      hold: (work) => clock.hold(work),
      moved: (bytes) => {
        clock.moved()
        if (bytes > 0) this.#stalls?.progressed()
        this.#state.fetched += bytes
      },
      staged: (bytes) => {
        this.#state.staged = bytes
      },
      behind: (records) => {
        this.#state.lag = records
        this.#stalls?.behind(records)
      },
      empty: (lookedMs) => this.#idling.empty(this.#source.config.id, lookedMs),
      ended: (lane) => this.#ended(lane),
    }
  }

  #ended(lane: string): void {
    const { gaps, forever, settle, fail } = this.#options
    gaps.ended(this.#source.config.id, lane)
    if (forever && gaps.owes(this.#source.config.id))
      Promise.all(this.#underWay)
        .then(() => settle(this.#source))
        .catch(fail)
  }

  async #givenUp({ givenUp }: SourceClock): Promise<void> {
    const { namespace, name } = this.#source.extractor.dataset()
    const { code, message, hint } =
      givenUp.reason instanceof AdflowError ? givenUp.reason : new AdflowError('UNEXPECTED', String(givenUp.reason))
    const text = hint === undefined ? message : `${message}; ${hint}`
    const gap = { gap: { lane: '*', from: '0' }, origin: `${namespace}/${name}`, code, message: text }
    await this.#options.gap(this.#source, gap)
  }

  /** For progress only: what cannot be known soon is not shown. Of a source that is staged the answer may cost as much as a page. */
  async #survey(): Promise<void> {
    const { observer, modified } = this.#options
    const { extractor, silenceMs } = this.#source
    const costly = !extractor.replayable && Number.isFinite(silenceMs)
    if (observer?.survey !== true || costly || this.#state.size !== undefined) return
    const asked = extractor.survey(this.#positions, modified).catch(() => undefined)
    const lanes = await (Number.isFinite(silenceMs) ? soon(asked, Math.min(silenceMs, SURVEY_MS)) : asked)
    if (lanes === undefined) return
    this.#state.size = lanes.reduce((sum, { bytesLeft }) => sum + bytesLeft, 0)
  }

  get #positions() {
    return this.#options.saver.state.sources[this.#source.config.id] ?? {}
  }
}

/** What a source says that is told to stop while it is reached for: the next run finds out whether it is more than that. */
function mayPass(error: unknown): boolean {
  return error instanceof AdflowError && error.retryable && error.exit === EXIT.unavailable
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

/** undefined: not within so long. */
async function soon<T>(work: Promise<T>, limitMs: number): Promise<T | undefined> {
  const over = new AbortController()
  const late = sleep(limitMs, undefined, { signal: over.signal }).catch(() => undefined)
  try {
    return await Promise.race([work, late])
  } finally {
    over.abort()
  }
}
