/**
 * A cast of text to a decimal rounds to the scale of the type in silence. SQL that tells whether it would: first by what costs
 * next to nothing and decides for nearly every value, then by patterns.
 */
import { literal } from './sql-text.ts'

/** True: at most `scale` characters stand behind the point, or in all, and no exponent can move it to the left. NULL for NULL. */
export function surelyExact(raw: string, scale: number): string {
  return `strlen(${raw}) - instr(${raw}, '.') <= ${scale} AND instr(${raw}, '-') = 0`
}

/** Decides for every number that the engine reads; zeros at the end of a fraction are no digits. NULL for NULL. */
export function isExact(raw: string, scale: number): string {
  const plain = `regexp_full_match(${raw}, ${literal(`\\s*[+-]?[0-9_]*(?:[.][0-9_]{0,${scale}}0*)?\\s*`)})`
  const fraction = `length(regexp_extract(${raw}, '[.]([0-9]*?)0*[eE]', 1))`
  const exponent = `coalesce(TRY_CAST(regexp_extract(${raw}, '[eE]([+-]?[0-9]+)', 1) AS INTEGER), 0)`
  const scientific = `(${fraction} - ${exponent} <= ${scale} OR coalesce(TRY_CAST(${raw} AS DOUBLE) = 0, false))`
  return `CASE WHEN contains(${raw}, 'e') OR contains(${raw}, 'E') THEN ${scientific} ELSE ${plain} END`
}
