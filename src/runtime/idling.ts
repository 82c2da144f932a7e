/**
 * Time that passes in a stream while its sources are silent. What waits for the watermark would wait for ever: a batch without a record lets it
 * move. Its clock is the last moment at which every source was seen to be empty, and stands in its plan before anything else knows of it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Chunk, Range } from '../core/contracts.ts'
import { IDLE_LANE, IDLE_SOURCE } from '../core/idle.ts'
import { comparePositions, START } from '../core/positions.ts'
import { idleChunk, idleSource } from './idle-source.ts'
import type { ReadingOptions } from './reading.ts'
import type { OpenSource } from './workshop.ts'

/** Time that passes is looked at so often, and at most so often there is a batch for it: what ends within that time comes at once. */
const LOOK_MS = 250
const APART_MS = 1_000

type IdlingOptions = Pick<
  ReadingOptions,
  'job' | 'saver' | 'state' | 'workshop' | 'forever' | 'past' | 'stop' | 'entered' | 'process' | 'fail'
>

export class Idling {
  readonly #options: IdlingOptions
  readonly #source: OpenSource
  readonly #steps: readonly { readonly afterMs: number; readonly due: string }[]
  /** When each source was last seen to be empty; by the clock of the machine, as everything here. */
  readonly #emptyMs = new Map<string, number>()
  #cameMs = Date.now()
  /** Rises when a batch has changed what waits. */
  #changes = 0
  /** When something comes out of each step, as it was after so many changes. */
  #due: { readonly changes: number; readonly ms: readonly number[] } | undefined

  constructor(options: IdlingOptions) {
    this.#options = options
    this.#source = idleSource(options.state.chunks)
    this.#steps = options.workshop.pipeline.stages.flatMap(({ step }) => step.state?.idle ?? [])
  }

  /** A batch of some source has begun. */
  came(): void {
    this.#cameMs = Date.now()
  }

  /** It is over. */
  through(): void {
    this.#changes += 1
  }

  empty(source: string, lookedMs: number): void {
    this.#emptyMs.set(source, lookedMs)
  }

  /** Batches that were planned before a crash: some store may have them. */
  async repeat(): Promise<void> {
    const { entered, saver, stop, fail } = this.#options
    entered(this.#source)
    const planned = saver.state.planned
      .filter(({ source }) => source === IDLE_SOURCE)
      .sort((a, b) => comparePositions(a.from, b.from))
    try {
      for (const range of planned) if (!stop.aborted) await this.#tick(async () => range)
    } catch (error) {
      fail(error)
    }
  }

  /** Lets time pass until the reading is over. */
  async beside(reading: Promise<unknown>): Promise<void> {
    const over = new AbortController()
    const watching = this.#watch(AbortSignal.any([this.#options.stop, over.signal])).catch(this.#options.fail)
    await reading
    over.abort()
    await watching
  }

  async #watch(signal: AbortSignal): Promise<void> {
    if (!this.#options.forever || this.#steps.length === 0) return
    while (!signal.aborted) {
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined) // aborted: the loop ends
      if (!signal.aborted && (await this.#passed()) !== undefined) await this.#tick(() => this.#passed())
    }
  }

  /** The time that has passed, where something waits for it. */
  async #passed(): Promise<Range | undefined> {
    const { saver, job } = this.#options
    // Of one that this run does not read nobody knows.
    const seen = job.extract.map(({ id }) => this.#emptyMs.get(id) ?? 0)
    const nowMs = Math.min(...seen)
    const from = saver.state.sources[IDLE_SOURCE]?.[IDLE_LANE]?.at ?? START
    if (nowMs < Number(from) + APART_MS || !this.#steps.some(({ afterMs }) => this.#silent(nowMs, afterMs)))
      return undefined
    const due = await this.#dueMs()
    const passed = this.#steps.some(({ afterMs }, index) => (due[index] ?? 0) <= nowMs && this.#silent(nowMs, afterMs))
    return passed ? { lane: IDLE_LANE, from, to: String(nowMs) } : undefined
  }

  #silent(nowMs: number, afterMs: number): boolean {
    return nowMs > this.#cameMs + afterMs
  }

  async #dueMs(): Promise<readonly number[]> {
    const changes = this.#changes
    if (this.#due?.changes === changes) return this.#due.ms
    const ms: number[] = []
    for (const { due } of this.#steps) {
      const value = await this.#options.workshop.session.value(`SELECT ceil(epoch_us((${due})) / 1000)::BIGINT`)
      ms.push(value === null ? Number.POSITIVE_INFINITY : Number(value))
    }
    this.#due = { changes, ms }
    return ms
  }

  /** `wanted` is asked again when the batch could begin. */
  async #tick(wanted: () => Promise<Range | undefined>): Promise<void> {
    const { state, workshop, forever, stop, process } = this.#options
    await workshop.references.ready(forever, stop)
    const session = await workshop.sessions.acquire()
    let chunk: Chunk | undefined
    try {
      const range = stop.aborted ? undefined : await wanted()
      if (range !== undefined) chunk = await idleChunk(range, state.chunks)
    } finally {
      if (chunk === undefined) workshop.sessions.release(session)
    }
    if (chunk !== undefined) await process(this.#source, chunk, session)
    this.through()
  }
}
