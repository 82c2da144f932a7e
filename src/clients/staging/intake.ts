/** Takes the pages of one lane in: into segments of about one chunk, at most one of them further than the engine has come. */
import { AdflowError } from '../../core/errors.ts'
import type { Fetcher, FetchLane, FetchTask, PageSink } from './fetcher.ts'
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
  /** One more segment can be read. */
  sealed(): void
  readonly signal: AbortSignal
}

export class Intake implements PageSink {
  readonly #lane: StagedLane
  readonly #options: IntakeOptions
  readonly #watch: Stopwatch
  #writer: SegmentWriter | undefined
  #format: SegmentFormat = NDJSON
  /** Cursor after the last whole page, where it is not durable yet. */
  #cursor: string | undefined

  constructor(lane: StagedLane, options: IntakeOptions) {
    this.#lane = lane
    this.#options = options
    this.#watch = new Stopwatch(options.timeoutMs)
  }

  get pageBytes(): number {
    return this.#writer === undefined ? 0 : this.#writer.bytes - this.#writer.pages.bytes
  }

  /** Resolves at the end of the source. Whole pages are durable then, also where it rejects, but for a stop of the run. */
  async run(fetcher: Fetcher, { lane, origin }: FetchLane): Promise<void> {
    const { segmentBytes, maxRecordBytes, timeoutMs, signal } = this.#options
    const task: FetchTask = {
      lane,
      origin,
      cursor: this.#lane.end.cursor ?? undefined,
      sink: this,
      segmentBytes,
      maxRecordBytes,
      signal: AbortSignal.any([signal, this.#watch.signal]),
    }
    this.#watch.start()
    try {
      await fetcher.fetch(task).catch((error: unknown) => {
        throw !signal.aborted && this.#watch.signal.aborted ? tooSlow(origin, timeoutMs) : error
      })
      if (this.pageBytes > 0) throw new AdflowError('UNEXPECTED', `the last page of ${origin} was not ended`)
      await this.#seal()
      const cursor = this.#cursor
      if (cursor !== undefined && cursor !== this.#lane.end.cursor) await this.#lane.advance(cursor)
    } catch (error) {
      if (!signal.aborted) await this.#seal()
      throw error
    } finally {
      this.#watch.stop()
      await this.#writer?.discard()
      this.#writer = undefined
      this.#count()
    }
  }

  async write(bytes: Buffer): Promise<void> {
    const { room, signal } = this.#options
    if (this.pageBytes === 0 && !room.has(bytes.length)) await this.#seal()
    await this.#watch.pause(() => room.take(bytes.length, signal))
    this.#writer ??= this.#lane.begin(this.#format)
    await this.#writer.write(bytes)
    this.#count()
  }

  async page(cursor: string): Promise<void> {
    if (cursor.length > LONGEST_CURSOR)
      throw new AdflowError('SOURCE_UNSUPPORTED', `a cursor of ${this.#lane.lane} has ${cursor.length} characters`, {
        hint: `at most ${LONGEST_CURSOR} can be kept with each position`,
      })
    await this.#writer?.endPage()
    this.#cursor = cursor
    if ((this.#writer?.pages.bytes ?? 0) < this.#options.segmentBytes) return
    await this.#seal()
    await this.#watch.pause(() => this.#caughtUp())
  }

  async drop(): Promise<void> {
    await this.#writer?.dropPage()
    this.#count()
  }

  async format(format: SegmentFormat): Promise<void> {
    if (JSON.stringify(format) === JSON.stringify(this.#format)) return
    if (this.pageBytes > 0) throw new AdflowError('UNEXPECTED', 'the format changes in the middle of a page')
    await this.#seal()
    this.#format = format
  }

  async #seal(): Promise<void> {
    const writer = this.#writer
    if (writer === undefined || writer.pages.bytes === 0 || this.#cursor === undefined) return
    this.#writer = undefined
    try {
      await this.#lane.seal(writer, this.#format, this.#cursor)
    } finally {
      await writer.discard()
    }
    this.#count()
    this.#options.sealed()
  }

  /** Not more than one segment waits to be read. */
  async #caughtUp(): Promise<void> {
    const { room, signal } = this.#options
    while (this.#unread().length > 1) await room.change(signal)
  }

  #unread(): Segment[] {
    return this.#lane.segments.filter(({ from, to }) => from < to && from >= this.#options.readAt())
  }

  #count(): void {
    const { room, loadedAt } = this.#options
    room.set(this.#lane.lane, this.#lane.end.at - Math.min(loadedAt(), this.#lane.end.at) + (this.#writer?.bytes ?? 0))
  }
}

function tooSlow(origin: string, timeoutMs: number): AdflowError {
  return new AdflowError('SOURCE_UNREADABLE', `${origin} was not at its end after ${timeoutMs / 1000} s`, {
    hint: 'the pages that came are kept, and the next run goes on after them; `staging.timeout` allows more time',
  })
}
