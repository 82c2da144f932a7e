/** "did you mean": the nearest of the words that would have been right. */
import { closest, distance } from 'fastest-levenshtein'

/** The candidate that was probably meant, or undefined where none is near enough. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = normal(word)
  const byNormal = new Map([...candidates].map((candidate) => [normal(candidate), candidate]))
  if (wanted === '' || byNormal.size === 0) return undefined
  const found = closest(wanted, [...byNormal.keys()])
  const limit = wanted.length <= 3 ? 1 : Math.max(2, Math.floor(wanted.length * 0.4))
  return distance(wanted, found) <= limit || letters(wanted) === letters(found) ? byNormal.get(found) : undefined
}

/** `did you mean `x`?`, or undefined. */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  const found = nearest(word, candidates)
  return found === undefined ? undefined : `did you mean \`${found}\`?`
}

/** `a`, `b` or `c`. */
export function orList(words: readonly string[]): string {
  const quoted = words.map((word) => `\`${word}\``)
  return quoted.length < 2 ? (quoted[0] ?? '') : `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`
}

/** Swapped letters cost two edits, which is too many for short words. */
function letters(word: string): string {
  return [...word].sort().join('')
}

function normal(word: string): string {
  return word.toLowerCase().replaceAll('-', '_')
}
