/**
 * From where the next listing may begin. It is kept in the marks of what is read, so that it is durable when they are, and it
 * only passes objects that were known to be read to their end when they were listed: what failed, or was cut off, is listed again.
 */
import type { SourceFile } from '../objects/discover.ts'
import type { KnownLane } from '../objects/lanes.ts'

export type Incremental = 'all' | 'key' | 'time'

interface Listing {
  readonly incremental: Incremental
  readonly lagMs: number
  readonly floor: string | undefined
}

/** What a lane had when its mark was made is all of it, and is durable: the mark of a planned range is ahead of its position, and
 *  that of a lane that was rewound, too. */
export function isFinished({ at, mark }: KnownLane): boolean {
  return mark?.ended === true && mark.at === at
}

/** `key`: a path, after which to list. `time`: milliseconds since the epoch. undefined: from the beginning, which is also where
 *  something stands behind the floor that is still to be read. */
export function floorOf(known: readonly KnownLane[], incremental: Incremental): string | undefined {
  if (incremental === 'all') return undefined
  const floors = known.flatMap(({ mark }) => {
    const [kind = '', value] = mark?.floor?.split(/:(.*)/s) ?? []
    return kind === incremental && value !== undefined ? [value] : []
  })
  const floor = floors.reduce<string | undefined>((best, floor) => {
    if (best === undefined) return floor
    const later = incremental === 'key' ? byteOrder(floor, best) > 0 : Number(floor) > Number(best)
    return later ? floor : best
  }, undefined)
  if (floor === undefined || incremental === 'time') return floor
  const isBehind = ({ lane, mark }: KnownLane) => byteOrder(mark?.path ?? lane, floor) <= 0
  return known.some((lane) => !isFinished(lane) && isBehind(lane)) ? undefined : floor
}

/** As marks keep it. */
export function nextFloor(
  files: readonly SourceFile[],
  known: readonly KnownLane[],
  { incremental, lagMs, floor }: Listing,
): string | undefined {
  if (incremental === 'all') return undefined
  const done = new Set<string>()
  for (const lane of known) if (isFinished(lane)) done.add(`${lane.mark?.path}\n${lane.mark?.version}`)
  const isDone = ({ path, facts }: SourceFile) => facts.size === 0 || done.has(`${path}\n${facts.version}`)
  if (incremental === 'key') {
    let last = floor
    for (const file of files.toSorted((a, b) => byteOrder(a.path, b.path))) {
      if (!isDone(file)) break
      last = file.path
    }
    return last === undefined ? undefined : `key:${last}`
  }
  const since = Number(floor ?? 0)
  const open = files.filter((file) => file.facts.modifiedMs >= since && !isDone(file))
  const newest = open.length > 0 ? open : files
  const times = newest.map(({ facts }) => facts.modifiedMs)
  if (times.length === 0) return floor === undefined ? undefined : `time:${floor}`
  const at = open.length > 0 ? times.reduce((a, b) => Math.min(a, b)) : times.reduce((a, b) => Math.max(a, b))
  return `time:${Math.max(since, at - lagMs)}`
}

/** The order in which S3 lists keys. */
function byteOrder(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
