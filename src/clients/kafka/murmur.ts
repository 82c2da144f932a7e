/** Where Kafka's own producers put a key, so that all of them agree. */

const SEED = 0x9747b28c
const MULTIPLIER = 0x5bd1e995

/** Partition of a key, as the producer of Apache Kafka (Java) chooses it. */
export function partitionOf(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions
}

/** 32 bits with a sign. */
export function murmur2(bytes: Uint8Array): number {
  const { length } = bytes
  const at = (index: number) => bytes[index] ?? 0
  let hash = SEED ^ length
  let index = 0
  for (; index + 4 <= length; index += 4) {
    let word = at(index) | (at(index + 1) << 8) | (at(index + 2) << 16) | (at(index + 3) << 24)
    word = Math.imul(word, MULTIPLIER)
    word = Math.imul(word ^ (word >>> 24), MULTIPLIER)
    hash = Math.imul(hash, MULTIPLIER) ^ word
  }
  const left = length - index
  if (left === 3) hash ^= at(index + 2) << 16
  if (left >= 2) hash ^= at(index + 1) << 8
  if (left >= 1) hash = Math.imul(hash ^ at(index), MULTIPLIER)
  hash = Math.imul(hash ^ (hash >>> 13), MULTIPLIER)
  return hash ^ (hash >>> 15)
}
