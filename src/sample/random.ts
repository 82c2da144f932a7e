/** Pseudo-random numbers that depend on the seed and on nothing else: not on threads, slices, files or the clock. */
import { createHash } from 'node:crypto'
import { literal } from '../engine/sql-text.ts'

/** A 62-bit key for one purpose of one seed. */
export function keyOf(...parts: readonly (string | number)[]): bigint {
  return createHash('sha256').update(parts.join('|')).digest().readBigUInt64BE() >> 2n
}

/** SQL: a 62-bit hash (BIGINT, not negative) of a non-negative integer expression. */
export function sqlHash(expression: string, key: bigint): string {
  return `(hash(xor((${expression})::UBIGINT, ${key}::UBIGINT)) >> 2)::BIGINT`
}

/** SQL: element `index` (from 0) of a constant list. */
export function sqlPick(values: readonly (string | number)[], index: string): string {
  const items = values.map((value) => (typeof value === 'number' ? String(value) : literal(value)))
  return `([${items.join(',')}])[(${index}) + 1]`
}
