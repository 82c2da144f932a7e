/** The low-water mark of each lane: how far everything is finished, whatever the order in which batches finish. */
import type { LanePosition, PlannedRange, Position, Range } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { comparePositions } from '../core/positions.ts'

interface Entry {
  readonly range: PlannedRange
  mark: string | undefined
  finished: boolean
}

interface Lane {
  position: LanePosition | undefined
  /** Where the next range must begin. */
  end: Position
  /** Ranges past `position`, by their `from`, in order of submission. */
  readonly open: Map<Position, Entry>
}

/** Only a contiguous finished prefix may be checkpointed: a later batch that finishes first must not carry the position
 *  over an earlier one that may still fail. Bounds nothing: who submits decides how much is in flight. */
export class Tracker {
  readonly #lanes = new Map<string, Lane>()
  #inFlight = 0

  /** `from`: where lanes stand. A lane that is not listed begins where its first range begins. */
  constructor(from: Readonly<Record<string, LanePosition>> = {}) {
    for (const [lane, position] of Object.entries(from))
      this.#lanes.set(lane, { position, end: position.at, open: new Map() })
  }

  /** Call in the order of the lane. A range that overlaps an earlier one or leaves a hole behind it is a defect of the
   *  extractor, and is refused before its data can be counted twice or be passed over. */
  start(range: PlannedRange): void {
    if (comparePositions(range.from, range.to) >= 0) throw defect(range, 'is empty or ends before it begins')
    let lane = this.#lanes.get(range.lane)
    if (lane === undefined) {
      lane = { position: undefined, end: range.from, open: new Map() }
      this.#lanes.set(range.lane, lane)
    }
    const order = comparePositions(range.from, lane.end)
    if (order < 0) throw defect(range, `overlaps or comes late: the lane is already submitted up to ${lane.end}`)
    if (order > 0) throw defect(range, `leaves a hole: the lane is submitted up to ${lane.end} only`)
    lane.end = range.to
    lane.open.set(range.from, { range, mark: range.mark, finished: false })
    this.#inFlight += 1
  }

  /** Any order; with the mark of its end where that is known better by now. Returns where the lane stands now; undefined while
   *  its first range is still open. */
  finish(range: PlannedRange): LanePosition | undefined {
    const lane = this.#lanes.get(range.lane)
    const entry = lane?.open.get(range.from)
    if (lane === undefined || entry === undefined || entry.range.to !== range.to)
      throw defect(range, 'was finished but is not in flight')
    if (entry.finished) throw defect(range, 'was finished twice')
    entry.finished = true
    if (range.mark !== undefined) entry.mark = range.mark
    this.#inFlight -= 1
    for (const [from, first] of lane.open) {
      if (!first.finished) break
      const {
        mark,
        range: { to },
      } = first
      lane.position = mark === undefined ? { at: to } : { at: to, mark }
      lane.open.delete(from)
    }
    return lane.position
  }

  /** The end of the contiguous finished prefix, with the mark of the range that ends there. */
  position(lane: string): LanePosition | undefined {
    return this.#lanes.get(lane)?.position
  }

  /** Ranges started and not finished, over all lanes. */
  inFlight(): number {
    return this.#inFlight
  }

  /** Ranges that the position of the lane has not passed, in order: started, or finished out of order. */
  open(lane: string): readonly PlannedRange[] {
    return [...(this.#lanes.get(lane)?.open.values() ?? [])].map((entry) => entry.range)
  }
}

function defect(range: Range, what: string): AdflowError {
  const text = `range [${range.from}, ${range.to}) of lane ${range.lane} ${what}`
  return new AdflowError('UNEXPECTED', text, { details: { lane: range.lane, from: range.from, to: range.to } })
}
