/** Order of positions: decimal digits, compared as numbers of any size without making them numbers. */
import type { Position } from './contracts.ts'

export const START: Position = '0'

/** Negative: a before b. */
export function comparePositions(a: Position, b: Position): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)
}
