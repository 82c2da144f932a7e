/**
 * Makes bytes short without changing their CRC-32. AssemblyScript: `npm run build` makes a part of dist/records.wasm of it, and src/records/sum.ts calls it.
 *
 * By the polynomial of CRC-32 x^300 + x^155 + x^117 + x^89 + 1 is nothing, and so, squared seven times, is the same of words of 128 bits: a word counts as much
 * as its copies 145, 183, 211 and 300 places later, and can be left out when it was added there. What stays are the last 300.
 */
const WORD: i32 = 16

/** Of the last 300 words. */
export const shortBytes: i32 = 300 * WORD

/**
 * What is left of `words` at `from`, 300 or more and a multiple of four, stands at `scratch` then, shortBytes of it. `first` is added to the first four bytes. Of
 * scratch so many `bytes` are used, a multiple of 64 and twice shortBytes or more: what stays in the nearest cache.
 */
export function shorten(from: i32, words: i32, first: i32, scratch: i32, bytes: i32): void {
  memory.fill(scratch, 0, shortBytes)
  store<i32>(scratch, first)
  const block = bytes - shortBytes
  for (let left = words * WORD - shortBytes; left > 0; left -= block) {
    const end = scratch + min(left, block)
    for (let at = scratch; at < end; at += 4 * WORD) {
      v128.store(at, sumOf(at, from), shortBytes)
      v128.store(at + WORD, sumOf(at + WORD, from + WORD), shortBytes)
      v128.store(at + 2 * WORD, sumOf(at + 2 * WORD, from + 2 * WORD), shortBytes)
      v128.store(at + 3 * WORD, sumOf(at + 3 * WORD, from + 3 * WORD), shortBytes)
      from += 4 * WORD
    }
    memory.copy(scratch, end, shortBytes)
  }
  // Nothing of the last ones is left out.
  memory.fill(scratch + shortBytes, 0, shortBytes)
  for (let at = scratch; at < scratch + shortBytes; at += WORD) {
    v128.store(at, sumOf(at, from))
    from += WORD
  }
}

/** The word at `from` with those that are left out before it; the one 300 places before it is at `at`. */
function sumOf(at: i32, from: i32): v128 {
  const before = v128.xor(v128.load(at, 155 * WORD), v128.load(at, 117 * WORD))
  const longBefore = v128.xor(v128.load(at, 89 * WORD), v128.load(at))
  return v128.xor(v128.xor(before, longBefore), v128.load(from))
}
