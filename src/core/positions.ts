/** Order of positions: decimal digits, compared as numbers of any size without making them numbers. */
import type { Position } from './contracts.ts'

export const START: Position = '0'

/** Negative: a before b. */
export function comparePositions(a: Position, b: Position): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)
}

/** At least every position of which a double is the nearest: where a store counts in doubles. */
export function atMost(double: number): Position {
  const whole = BigInt(double)
  return String(whole + whole / 2n ** 52n)
}
