/** `$seq` in the SQL of a step with state: the number of the batch (see StepState in core/contracts.ts). */

export const SEQUENCE = '$seq'

/** Quoted text, quoted names and comments are matched first, so that a `$seq` inside them stays what it is. */
const TOKENS = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$seq\b/g

export function bindSequence(sql: string, sequence: number | bigint): string {
  return sql.replace(TOKENS, (token) => (token === SEQUENCE ? String(sequence) : token))
}
