/** Reads one staged lane: planned ranges first and exactly, then what is staged, then what is fetched meanwhile. */
import type { Chunk, Gap, LanePosition, PlannedRange } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { comparePositions } from '../../core/positions.ts'
import type { SourceWatch } from '../../core/source-watch.ts'
import type { Fetcher, FetchLane } from './fetcher.ts'
import { Intake } from './intake.ts'
import { parseStagedMark, stagedMark } from './mark.ts'
import type { Room } from './room.ts'
import { goneError, type StagedCut, StagedCutter } from './staged-cutter.ts'
import { type Entry, StagedLane } from './staged-lane.ts'

export interface LaneWork extends FetchLane {
  readonly position: LanePosition | undefined
  /** Of this lane, in any order. */
  readonly planned: readonly PlannedRange[]
  /** Stop exactly there. */
  readonly until: number | undefined
  /** undefined: only what is staged is read. */
  readonly fetcher: Fetcher | undefined
}

export interface LaneOptions {
  readonly stageDir: string
  readonly chunkDir: string
  readonly chunkBytes: number
  readonly segmentBytes: number
  readonly maxRecordBytes: number
  readonly timeoutMs: number
  readonly watch: SourceWatch | undefined
  readonly room: Room
  readonly signal: AbortSignal
  /** The lane is open: from now on its segments may be removed. */
  opened(lane: StagedLane): void
  loadedAt(lane: string): number
  warn(lane: string, text: string): void
}

const FAULTS = /^SOURCE_|^STAGE_FULL$/

export function isFault(error: unknown): error is AdflowError {
  return error instanceof AdflowError && FAULTS.test(error.code)
}

export function gapOf({ lane, origin }: FetchLane, from: number | string, error: AdflowError): Gap {
  const message = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`
  return { gap: { lane, from: String(from) }, origin, code: error.code, message }
}

export async function* readStagedLane(work: LaneWork, options: LaneOptions): AsyncGenerator<Chunk | Gap> {
  const planned = [...work.planned].sort((a, b) => comparePositions(a.from, b.from))
  const entry = entryOf(work.position, planned)
  const goesOn = work.until === undefined
  const lane = await (goesOn ? StagedLane.open : StagedLane.look)(options.stageDir, work.lane, entry)
  options.opened(lane)
  if (lane.aside.length > 0)
    options.warn(work.lane, `staged bytes of ${work.lane} could not be used: ${lane.aside.join(', ')} were put aside`)
  const reader = new LaneReader(work, lane, entry, options)
  try {
    yield* reader.read(planned)
  } catch (error) {
    if (!isFault(error)) throw error
    yield gapOf(work, reader.at, error)
  } finally {
    await reader.close()
  }
}

/** Planned ranges may be known without a position: a rebuilt checkpoint has none of a lane that no store has all of. */
function entryOf(position: LanePosition | undefined, planned: readonly PlannedRange[]): Entry {
  const at = Number(position?.at ?? planned[0]?.from ?? 0)
  const mark = parseStagedMark(position?.mark)
  if (mark?.staged === at) return { at, lines: mark.lines, cursor: mark.cursor }
  return { at, lines: mark?.lines ?? 0, cursor: at === 0 ? null : undefined }
}

class LaneReader {
  /** How far the lane was handed out. */
  at: number
  readonly #work: LaneWork
  readonly #lane: StagedLane
  readonly #options: LaneOptions
  readonly #cutter: StagedCutter
  readonly #stop = new AbortController()
  #intake: Promise<void> | undefined
  /** Segments that the room expects to be read. */
  #expected: number

  constructor(work: LaneWork, lane: StagedLane, entry: Entry, options: LaneOptions) {
    this.at = entry.at
    this.#work = work
    this.#lane = lane
    this.#options = options
    this.#cutter = new StagedCutter(lane, { ...options, origin: work.origin })
    this.#expected = this.#unread
    options.room.expect(this.#expected)
    options.room.set(work.lane, Math.max(0, lane.end.at - entry.at))
  }

  async *read(planned: readonly PlannedRange[]): AsyncGenerator<Chunk> {
    for (const { from, to } of planned)
      if (!this.#lane.covers(Number(from), Number(to))) throw goneError(this.#work.lane, Number(from), Number(to))
    const { fetcher, until = Number.POSITIVE_INFINITY } = this.#work
    if (fetcher !== undefined) this.#begin(fetcher)
    for (const { from, to } of planned) yield await this.#chunk(Number(from), { to: Number(to), exact: true })
    for (;;) {
      while (this.at < Math.min(until, this.#lane.end.at))
        yield await this.#chunk(this.at, this.#cutter.target(this.at, until))
      if (!(await this.#more())) break
    }
    if (fetcher !== undefined && !this.#options.signal.aborted) this.#options.watch?.ended(this.#work.lane)
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#intake?.catch(() => undefined) // told already, or nobody asks any more
    this.#options.room.expect(-this.#expected)
    this.#expected = 0
  }

  get #unread(): number {
    return this.#lane.segments.filter(({ from, to }) => from < to && to > this.at).length
  }

  /** Fetching goes on while what is staged is read. */
  #begin(fetcher: Fetcher): void {
    const { segmentBytes, maxRecordBytes, timeoutMs, watch, room, loadedAt } = this.#options
    const { lane } = this.#work
    if (this.#lane.end.cursor === undefined) throw this.#lost()
    const intake = new Intake(this.#lane, {
      segmentBytes,
      maxRecordBytes,
      timeoutMs,
      watch,
      room,
      readAt: () => this.at,
      loadedAt: () => loadedAt(lane),
      sealed: () => this.#expect(),
      signal: AbortSignal.any([this.#options.signal, this.#stop.signal]),
    })
    this.#intake = intake.run(fetcher, this.#work).finally(() => room.expect(0))
    this.#intake.catch(() => undefined) // asked for below
  }

  /** Waits for the next segment. false: there will be none. */
  async #more(): Promise<boolean> {
    const { signal, room } = this.#options
    const intake = this.#intake
    if (intake === undefined || signal.aborted) return false
    const ended = intake.then(() => 'ended' as const)
    ended.catch(() => undefined) // raced below, perhaps in the next turn
    for (;;) {
      if (this.at < this.#lane.end.at) return true
      const first = await Promise.race([ended, room.change(signal).catch(() => 'stopped' as const)]).catch(
        (error: unknown) => {
          if (this.at < this.#lane.end.at || signal.aborted) return 'failed' as const
          throw error
        },
      )
      if (signal.aborted || first === 'stopped') return false
      if (first === 'ended' || first === 'failed') return this.at < this.#lane.end.at
    }
  }

  async #chunk(from: number, target: { readonly to: number; readonly exact: boolean }): Promise<Chunk> {
    const { room } = this.#options
    const cut = await this.#cutter.cut(from, target)
    this.at = Math.max(this.at, cut.to)
    room.expect(1)
    this.#expect()
    return this.#named(from, cut)
  }

  /** Tells the room how many segments are left to be read. */
  #expect(): void {
    const unread = this.#unread
    this.#options.room.expect(unread - this.#expected)
    this.#expected = unread
  }

  #named(from: number, cut: StagedCut): Chunk {
    const { lane, origin } = this.#work
    const { to, lines, discard, ...rest } = cut
    let released: Promise<void> | undefined
    return {
      range: { lane, from: String(from), to: String(to) },
      mark: stagedMark({ staged: to, lines, ...this.#cursorAt(to) }),
      origin,
      ...rest,
      release: () => {
        released ??= discard().finally(() => this.#options.room.expect(-1))
        return released
      },
    }
  }

  #cursorAt(position: number): { cursor?: string | null } {
    const segment = this.#lane.segments.find(({ from, to }) => from < to && to === position)
    return segment === undefined ? {} : { cursor: segment.cursor }
  }

  #lost(): AdflowError {
    const { lane } = this.#work
    return new AdflowError(
      'SOURCE_CHANGED',
      `nobody knows where ${lane} goes on at position ${this.#lane.end.at}: the staging folder is not what it was, and the checkpoint has no cursor for it`,
      {
        hint: `bring back the folder ${this.#lane.folder}, or put the lane back with \`adflow state rewind\` to an edge that the ledger has a cursor for`,
      },
    )
  }
}
