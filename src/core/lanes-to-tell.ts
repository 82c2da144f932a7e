/** Of which lanes a store has something to tell, to whoever knows where they stand. */
import type { Position, Since } from './contracts.ts'
import { comparePositions } from './positions.ts'

/** A place in a lane. */
export interface LanePlace {
  readonly source: string
  readonly lane: string
  readonly at: Position
}

/** Of more lanes all is asked for at once: one question has an end. */
const MOST_LANES = 100

/**
 * `tops`: of each lane where the last batch begins that the store has of it. Returns where to ask from on, of each lane of which there
 * is something; undefined: of so many that all is asked for.
 */
export function lanesToTell(tops: readonly LanePlace[], since: Since): readonly LanePlace[] | undefined {
  const lanes = tops.flatMap(({ source, lane, at }) => {
    const from = since(source, lane)
    return from === undefined || comparePositions(at, from) < 0 ? [] : [{ source, lane, at: from }]
  })
  return lanes.length > MOST_LANES ? undefined : lanes
}
