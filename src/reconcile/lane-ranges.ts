/** Ranges of a lane: what lies between those that are known, and which of them hang together. */
import type { Position } from '../core/contracts.ts'
import { comparePositions } from '../core/positions.ts'

export interface Span {
  readonly from: Position
  readonly to: Position
}

interface Placed extends Span {
  readonly source: string
  readonly lane: string
}

/** What of [from, to) no known range covers, in order. */
export function holes({ from, to }: Span, known: readonly Span[]): readonly Span[] {
  const found: Span[] = []
  let at = from
  for (const range of known.toSorted((a, b) => comparePositions(a.from, b.from))) {
    if (comparePositions(range.to, at) <= 0) continue
    if (comparePositions(range.from, to) >= 0) break
    if (comparePositions(range.from, at) > 0) found.push({ from: at, to: range.from })
    at = range.to
  }
  if (comparePositions(at, to) < 0) found.push({ from: at, to })
  return found
}

export function overlap(one: Span, other: Span): boolean {
  return comparePositions(one.from, other.to) < 0 && comparePositions(other.from, one.to) < 0
}

export function laneOf({ source, lane }: Pick<Placed, 'source' | 'lane'>): string {
  return JSON.stringify([source, lane])
}

/** Rounds in which every lane has at most one stretch without a hole: a run reads its lanes that way. */
export function rounds<Item extends Placed>(items: readonly Item[]): readonly (readonly Item[])[] {
  const made: Item[][] = []
  for (const own of Map.groupBy(items, laneOf).values()) {
    const sorted = own.toSorted((a, b) => comparePositions(a.from, b.from))
    let round = -1
    let end: Position | undefined
    for (const item of sorted) {
      if (item.from !== end) round += 1
      end = item.to
      const list = made[round] ?? []
      made[round] = list
      list.push(item)
    }
  }
  return made
}
