/** Which record of a sample gets which defect: exact counts, spread evenly, computed from the position alone. */
import { sqlHash } from './random.ts'

/** In the order of their codes in SQL: 0 is a clean record, 1 is `malformed`, … 8 is `duplicate`. */
export const DEFECT_CLASSES = [
  'malformed',
  'wrong_type',
  'missing_field',
  'unknown_type',
  'negative_cost',
  'late',
  'future',
  'duplicate',
] as const

export type DefectClass = (typeof DEFECT_CLASSES)[number]
export type DefectCounts = Readonly<Record<DefectClass, number>>

/** An exact copy follows its original by at most this many records. */
export const DUPLICATE_DISTANCE = 50_000

/** Code of a class in the `defect` column of the generating SQL. */
export const codeOf = (name: DefectClass): number => DEFECT_CLASSES.indexOf(name) + 1

/** Counts for every class from a function of its name. */
export function countsOf(count: (name: DefectClass) => number): DefectCounts {
  return Object.fromEntries(DEFECT_CLASSES.map((name) => [name, count(name)])) as Record<DefectClass, number>
}

export const totalOf = (counts: DefectCounts): number => DEFECT_CLASSES.reduce((sum, name) => sum + counts[name], 0)

/**
 * The first `total × width` positions are cut into strata of `width`; each holds exactly one defect, never at its first
 * position. So the counts are exact without a table of positions, and a clean record is always near.
 */
export interface DefectPlan {
  readonly counts: DefectCounts
  readonly total: number
  readonly width: number
  readonly key: bigint
}

/** Needs `2 × total ≤ rows` (checked where options are read). */
export function planDefects(rows: number, counts: DefectCounts, key: bigint): DefectPlan {
  const total = totalOf(counts)
  return { counts, total, width: total === 0 ? 0 : Math.floor(rows / total), key }
}

/** Offset of the defect in stratum `k`: 1 … width-1. */
const offsetIn = ({ width, key }: DefectPlan, k: string): string => `(1 + ${sqlHash(k, key)} % ${width - 1})`

/** SQL: is there a defect (or a duplicate) at position `p`? */
export function isDefect(plan: DefectPlan, p: string): string {
  if (plan.total === 0) return 'false'
  const { total, width } = plan
  return `((${p}) < ${total * width} AND (${p}) % ${width} = ${offsetIn(plan, `(${p}) // ${width}`)})`
}

/** SQL: the code of the defect at position `p`, 0 where the record is clean. */
export function defectAt(plan: DefectPlan, p: string): string {
  if (plan.total === 0) return '0'
  const { total, width, key } = plan
  // k → (k·a + b) mod total is a permutation of the strata, so each class gets exactly its count.
  const rank = `((${p}) // ${width} * ${coprimeNearGoldenRatio(total)} + ${key % BigInt(total)}) % ${total}`
  let upTo = 0
  const cases = DEFECT_CLASSES.map((name) => {
    upTo += plan.counts[name]
    return `WHEN ${rank} < ${upTo} THEN ${codeOf(name)}`
  })
  return `CASE WHEN ${isDefect(plan, p)} THEN CASE ${cases.join(' ')} END ELSE 0 END`
}

/** SQL: position of the clean record that the duplicate at `p` repeats, 1 … DUPLICATE_DISTANCE records earlier. */
export function originalOf(plan: DefectPlan, p: string): string {
  if (plan.total === 0) return p
  const { width, key } = plan
  const most = Math.max(Math.floor(DUPLICATE_DISTANCE / width) - 1, 0)
  const back = `least((${p}) // ${width}, ${sqlHash(p, key + 1n)} % ${most + 1})`
  const stratum = `((${p}) // ${width} - ${back})`
  const pick = sqlHash(p, key + 2n)
  const here = `(${p}) - 1 - ${pick} % least((${p}) % ${width}, ${DUPLICATE_DISTANCE})`
  const there = `${stratum} * ${width} + (${offsetIn(plan, stratum)} + 1 + ${pick} % ${width - 1}) % ${width}`
  return `CASE WHEN ${back} = 0 THEN ${here} ELSE ${there} END`
}

function coprimeNearGoldenRatio(total: number): number {
  let a = Math.max(Math.round(total * 0.618), 1)
  while (gcd(a, total) !== 1) a += 1
  return a
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
