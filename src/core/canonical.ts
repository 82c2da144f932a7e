/** Canonical JSON: one text per value, so that the same value always has the same hash. */

/** Keys sorted by UTF-16 code unit, no white space, absent where undefined. Refuses what JSON cannot carry exactly:
 *  integers beyond 2^53 (write them as strings), fractions that are not finite, bigint, functions. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`canonical JSON cannot carry ${value}`)
    if (Number.isInteger(value) && !Number.isSafeInteger(value))
      throw new TypeError(`canonical JSON cannot carry the integer ${value} exactly: pass it as a string`)
    return JSON.stringify(value)
  }
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object') throw new TypeError(`canonical JSON cannot carry a ${typeof value}`)
  const record = value as Readonly<Record<string, unknown>>
  const members = Object.keys(record)
    .filter((key) => record[key] !== undefined)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(record[key])}`)
  return `{${members.join(',')}}`
}
