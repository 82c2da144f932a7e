/** `$seq` and `$lane` in the SQL of a step with state: number and lane of the batch (see StepState in core/step-contract.ts). */
import { IDLE_LANE, IDLE_SOURCE } from '../core/idle.ts'
import { literal } from './sql-text.ts'

export const SEQUENCE = '$seq'
export const LANE = '$lane'

/** Text for `$lane`. */
export function laneText(source: string, lane: string): string {
  return JSON.stringify([source, lane])
}

/** That of batches without a record. */
export const IDLE = laneText(IDLE_SOURCE, IDLE_LANE)

/** Quoted text, quoted names and comments are matched first, so that a `$seq` inside them stays what it is. */
const TOKENS = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(?:seq|lane)\b/g

/** `lane`: name of source and lane; only statements that mark a batch may have it. */
export function bindSequence(sql: string, sequence: number | bigint, lane?: string): string {
  return sql.replace(TOKENS, (token) => {
    if (token === SEQUENCE) return String(sequence)
    return token === LANE && lane !== undefined ? literal(lane) : token
  })
}
