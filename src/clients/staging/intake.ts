/** Takes the pages of one lane in: into segments of about one chunk, at most one of them further than the engine has come. */

import { AdflowError } from '../../core/errors.ts'
import { durationText } from '../../core/job/units.ts'
import type { SourceWatch } from '../../core/source-watch.ts'
import type { Fetcher, FetchLane, FetchTask, PageSink } from './fetcher.ts'
import { orGiveUp } from './or-give-up.ts'
import type { Room } from './room.ts'
import type { Segment, SegmentFormat } from './segment.ts'
import type { SegmentWriter } from './segment-writer.ts'
import type { StagedLane } from './staged-lane.ts'
import { Stopwatch } from './stopwatch.ts'

const LONGEST_CURSOR = 64 << 10
const NDJSON: SegmentFormat = { type: 'ndjson' }

export interface IntakeOptions {
  readonly segmentBytes: number
  readonly maxRecordBytes: number
  readonly timeoutMs: number
  readonly room: Room
  /** Segments from here on have not been read yet. */
  readAt(): number
  /** Bytes of the lane up to here are loaded. */
  loadedAt(): number
  readonly watch: SourceWatch | undefined
  /** One more segment can be read. */
  sealed(): void
  readonly signal: AbortSignal
}

export class Intake implements PageSink {
  readonly #lane: StagedLane
  readonly #options: IntakeOptions
  readonly #watch: Stopwatch
  readonly #silence: Stopwatch
  /** What still comes is nobody's: the segment may have been sealed. */
  #over = false
  #writer: SegmentWriter | undefined
  #format: SegmentFormat = NDJSON
  /** Cursor after the last whole page, where it is not durable yet. */
  #cursor: string | undefined
  /** A segment becomes durable while the next is fetched: one at a time, and none after one that failed. */
  #sealing: Promise<void> = Promise.resolve()
  #sealingBytes = 0

  constructor(lane: StagedLane, options: IntakeOptions) {
    this.#lane = lane
    this.#options = options
    this.#watch = new Stopwatch(options.timeoutMs)
    this.#silence = new Stopwatch(options.watch?.silenceMs ?? Number.POSITIVE_INFINITY)
  }

  get pageBytes(): number {
    return this.#writer === undefined ? 0 : this.#writer.bytes - this.#writer.pages.bytes
  }

  isFullBy(pageBytes: number): boolean {
    return (this.#writer?.pages.bytes ?? 0) + pageBytes >= this.#options.segmentBytes
  }

  /** Resolves at the end of the source. Whole pages are durable then, also where it rejects, but for a stop of the run. */
  async run(fetcher: Fetcher, { lane, origin }: FetchLane): Promise<void> {
    const { segmentBytes, maxRecordBytes, timeoutMs, watch, signal } = this.#options
    const cursor = this.#lane.end.cursor ?? undefined
    const limits = [
      ...(watch === undefined ? [] : [{ signal: watch.givenUp, error: () => watch.givenUp.reason as unknown }]),
      { signal: this.#silence.signal, error: () => silent(origin, watch?.silenceMs ?? 0) },
      { signal: this.#watch.signal, error: () => tooSlow(origin, timeoutMs) },
    ]
    const task: FetchTask = {
      lane,
      origin,
      cursor,
      sink: this,
      segmentBytes,
      maxRecordBytes,
      signal: AbortSignal.any([signal, ...limits.map((limit) => limit.signal)]),
    }
    this.#watch.start()
    this.#silence.start()
    try {
      task.signal.throwIfAborted()
      // Known to be loaded from the start: the source has gone on without bytes.
      if (cursor !== undefined && this.#options.loadedAt() >= this.#lane.end.at) await fetcher.confirm?.(lane, cursor)
      await orGiveUp(fetcher.fetch(task), task.signal)
      if (this.pageBytes > 0) throw new AdflowError('UNEXPECTED', `the last page of ${origin} was not ended`)
      await this.#seal()
      const last = this.#cursor
      if (last !== undefined && last !== this.#lane.end.cursor) await this.#lane.advance(last)
    } catch (error) {
      this.#over = true
      if (signal.aborted) throw error
      await this.#seal()
      throw limits.find((limit) => limit.signal.aborted)?.error() ?? error
    } finally {
      this.#over = true
      this.#watch.stop()
      this.#silence.stop()
      await this.#sealing.catch(() => undefined) // whoever sealed next was told, or the run is stopped
      await this.#writer?.discard()
      this.#writer = undefined
      this.#count()
    }
  }

  async write(bytes: Buffer, records?: number): Promise<void> {
    const { room, watch, signal } = this.#options
    this.#refuseLate()
    watch?.moved(bytes.length)
    this.#silence.restart()
    // Segments that are not sealed yet will make no room.
    if (!room.has(bytes.length)) await (this.pageBytes === 0 ? this.#seal() : this.#sealing)
    await this.#pause(() => room.take(bytes.length, signal))
    this.#refuseLate()
    this.#writer ??= this.#lane.begin(this.#format, this.#options.maxRecordBytes)
    await this.#writer.write(bytes, records)
    this.#count()
  }

  async page(cursor: string): Promise<void> {
    this.#refuseLate()
    this.#options.watch?.moved(0)
    this.#silence.restart()
    if (cursor.length > LONGEST_CURSOR)
      throw new AdflowError('SOURCE_UNSUPPORTED', `a cursor of ${this.#lane.lane} has ${cursor.length} characters`, {
        hint: `at most ${LONGEST_CURSOR} can be kept with each position`,
      })
    await this.#writer?.endPage()
    this.#cursor = cursor
    if ((this.#writer?.pages.bytes ?? 0) < this.#options.segmentBytes) return
    await this.#pause(() => this.#sealing)
    this.#sealing = this.#sealed()
    this.#sealing.catch(() => undefined) // awaited before the next one, or at the end
    await this.#pause(() => this.#caughtUp())
  }

  async drop(): Promise<void> {
    this.#refuseLate()
    await this.#writer?.dropPage()
    this.#count()
  }

  async format(format: SegmentFormat): Promise<void> {
    this.#refuseLate()
    if (JSON.stringify(format) === JSON.stringify(this.#format)) return
    if (this.pageBytes > 0) throw new AdflowError('UNEXPECTED', 'the format changes in the middle of a page')
    await this.#seal()
    this.#format = format
  }

  /** For work that the source is not to blame for. */
  #pause(work: () => Promise<void>): Promise<void> {
    const { watch } = this.#options
    const paused = () => this.#silence.pause(() => this.#watch.pause(work))
    return watch === undefined ? paused() : watch.hold(paused)
  }

  #refuseLate(): void {
    if (this.#over) throw new AdflowError('SOURCE_TIMEOUT', `${this.#lane.lane} was given up`)
  }

  /** Resolved: all whole pages are durable. */
  async #seal(): Promise<void> {
    await this.#sealing
    await this.#sealed()
  }

  async #sealed(): Promise<void> {
    const writer = this.#writer
    if (writer === undefined || writer.pages.bytes === 0 || this.#cursor === undefined) return
    this.#writer = undefined
    this.#sealingBytes = writer.bytes
    try {
      await this.#lane.seal(writer, this.#format, this.#cursor)
    } finally {
      this.#sealingBytes = 0
      await writer.discard()
      this.#count()
    }
    this.#options.sealed()
  }

  /** Not more than one segment waits to be read. */
  async #caughtUp(): Promise<void> {
    const { room, signal } = this.#options
    while (this.#unread().length + (this.#sealingBytes > 0 ? 1 : 0) > 1) await room.change(signal)
  }

  #unread(): Segment[] {
    return this.#lane.segments.filter(({ from, to }) => from < to && from >= this.#options.readAt())
  }

  #count(): void {
    const { room, loadedAt } = this.#options
    const { at } = this.#lane.end
    const notSealed = this.#sealingBytes + (this.#writer?.bytes ?? 0)
    room.set(this.#lane.lane, at - Math.min(loadedAt(), at) + notSealed)
  }
}

function silent(origin: string, silenceMs: number): AdflowError {
  return new AdflowError('SOURCE_TIMEOUT', `${origin} gave nothing for ${durationText(silenceMs)}`, {
    hint: 'the pages that came are kept, and the next run goes on after them; `give_up_after` of the source allows more',
  })
}

function tooSlow(origin: string, timeoutMs: number): AdflowError {
  return new AdflowError('SOURCE_TIMEOUT', `${origin} was not at its end after ${durationText(timeoutMs)}`, {
    hint: 'the pages that came are kept, and the next run goes on after them; `staging.timeout` allows more time',
  })
}
