/** What a run has to read of each lane. */
import type { PlannedRange, Positions, ReadContext } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { comparePositions } from '../../core/positions.ts'
import { naturalOrder } from './discover.ts'
import { parseMark } from './identity.ts'
import type { KnownLane } from './lanes.ts'
import type { LaneTask } from './reading.ts'

/** Lanes of the checkpoint, and those that a crash left planned before they had a position. */
export function knownLanes(from: Positions, planned: readonly PlannedRange[]): KnownLane[] {
  const lanes = new Map<string, KnownLane>()
  for (const [lane, { at, mark }] of Object.entries(from))
    lanes.set(lane, { lane, at: Number(at), mark: parseMark(mark) })
  for (const { lane, mark } of planned) {
    const known = lanes.get(lane)
    if (known?.mark === undefined) lanes.set(lane, { lane, at: known?.at ?? 0, mark: parseMark(mark) })
  }
  return [...lanes.values()]
}

export function taskOf<Lane extends KnownLane>(
  lane: Lane,
  planned: readonly PlannedRange[],
): Lane & Pick<LaneTask, 'planned'> {
  const own = planned.filter((range) => range.lane === lane.lane).sort((a, b) => comparePositions(a.from, b.from))
  return { ...lane, planned: own }
}

/** Why the rest of a lane cannot be read: its bytes are nowhere any more. undefined: nothing of it was left to read, or a
 *  younger lane of the same name was begun, and the loss was booked before that. */
export function lossOf(
  { lane, mark }: KnownLane,
  path: string,
  known: readonly KnownLane[],
  planned: readonly PlannedRange[],
): AdflowError | undefined {
  if (planned.length === 0) {
    if (mark === undefined || mark.ended) return undefined
    if (known.some((other) => other.mark?.path === mark.path && naturalOrder(other.lane, lane) > 0)) return undefined
  }
  const read = mark === undefined ? '' : `; ${mark.raw} of its ${mark.size} bytes were read`
  return new AdflowError(
    'SOURCE_CHANGED',
    `what lane ${lane} still had to read of ${path} is nowhere to be found${read}`,
    {
      hint: 'bring the file back, under any name beside it, or move the position on with `adflow state set`',
    },
  )
}

/** What is left to do of a lane: nothing, up to now, or up to a stated position. */
export function taskUntil(task: LaneTask, until: ReadContext['until']): LaneTask[] {
  if (typeof until === 'string') return task.state === 'done' && task.planned.length === 0 ? [] : [task]
  const end = until[task.lane]
  if (end === undefined) return task.planned.length === 0 ? [] : [{ ...task, until: 0 }]
  return [{ ...task, until: Number(end.at) }]
}
