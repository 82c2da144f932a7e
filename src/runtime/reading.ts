/**
 * Reads the sources of a run: each item becomes a gap in the books or a batch. A run ends with its sources, or goes on for
 * ever; then a source of which a lane turned out to be damaged is read anew after a pause, from where it was acknowledged.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Chunk, Gap, ReadContext } from '../core/contracts.ts'
import type { Session } from '../engine/session.ts'
import { type BatchesOptions, placeOf, type Source } from './batch.ts'
import type { BrokenLanes } from './broken-lanes.ts'
import { isWhole, type WholeChunks } from './whole-chunks.ts'

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
}

export class Reading {
  readonly #options: ReadingOptions
  readonly #underWay = new Set<Promise<void>>()
  /** By id of the source: ends the reading that goes on. */
  readonly #interrupts = new Map<string, AbortController>()

  constructor(options: ReadingOptions) {
    this.#options = options
  }

  /** Says what there is to read. */
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

  /** Every source to its end, in the order of their priority; all at the same time where the run goes on for ever. Resolved: nothing
   *  is under way. */
  async all(): Promise<void> {
    const { workshop, forever, stop } = this.#options
    if (forever) await Promise.all(workshop.extractors.map((source) => this.#forever(source)))
    else
      for (const source of workshop.extractors) {
        if (stop.aborted) break
        await this.#read(source)
      }
    await Promise.all(this.#underWay)
  }

  /** A lane of the source is damaged: a run that goes on for ever begins it anew. */
  interrupt(source: Source): void {
    this.#interrupts.get(source.config.id)?.abort()
  }

  async #forever(source: Source): Promise<void> {
    const { stop, forget, job, summary } = this.#options
    let pauseMs = job.retry.initialMs
    while (!stop.aborted) {
      const before = summary.batches
      await this.#read(source)
      await Promise.all(this.#underWay)
      if (stop.aborted) return
      await forget(source)
      pauseMs = summary.batches > before ? job.retry.initialMs : Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
      await sleep(pauseMs, undefined, { signal: stop }).catch(() => undefined) // aborted: the loop ends
    }
  }

  async #read(source: Source): Promise<void> {
    const { whole, stop } = this.#options
    do await this.#once(source)
    while ((await whole.mustReadAgain(source.config.id, this.#underWay)) && !stop.aborted)
  }

  async #once(source: Source): Promise<void> {
    const { workshop, broken, stop, entered, gap, process, whole } = this.#options
    entered(source)
    for await (const item of source.extractor.read(this.#context(source))) {
      if ('gap' in item) {
        await gap(source, item)
        continue
      }
      const session = await workshop.sessions.acquire()
      const isBroken = broken.get(placeOf(source, item)) !== undefined
      if (isBroken || stop.aborted) {
        workshop.sessions.release(session)
        await item.release()
        if (isBroken) continue
        return
      }
      if (isWhole(item)) whole.begin(source.config.id)
      const task = process(source, item, session).finally(() => this.#underWay.delete(task))
      this.#underWay.add(task)
    }
  }

  #context({ config }: Source): ReadContext {
    const { job, saver, modified, past, forever, takesWhole, whole } = this.#options
    const { chunkBytes, maxRecordBytes, parallel } = job.resources
    return {
      from: this.#positions(config.id),
      planned: saver.state.planned.filter((batch) => batch.source === config.id),
      until: past !== undefined ? {} : forever ? 'forever' : 'now',
      chunkBytes,
      ...(takesWhole ? { wholeBytes: () => whole.largest(config.id) } : {}),
      ...(forever ? { flushMs: job.stream.flushMs } : {}),
      maxRecordBytes,
      parallel,
      signal: forever ? this.#interruptible(config.id) : this.#options.stop,
      ...(modified === undefined ? {} : { modified }),
    }
  }

  #interruptible(source: string): AbortSignal {
    const interrupt = new AbortController()
    this.#interrupts.set(source, interrupt)
    return AbortSignal.any([this.#options.stop, interrupt.signal])
  }

  #positions(source: string) {
    return this.#options.saver.state.sources[source] ?? {}
  }
}
