/** The field by which a source is read on: how its values are compared, and how the source is asked for what came after. */

export const SINCE_KINDS = ['time', 'date', 'unix', 'unix_ms', 'number', 'text'] as const
export type SinceKind = (typeof SINCE_KINDS)[number]

/** The text of a value of JSON or CSV; undefined: it cannot be compared. */
export function comparable(raw: string | undefined, kind: SinceKind): string | undefined {
  if (raw === undefined || raw === 'null' || raw === '') return undefined
  const text = raw.startsWith('"') ? unquoted(raw) : raw
  if (text === undefined || kind === 'text') return text
  if (kind === 'time' || kind === 'date') return Number.isNaN(Date.parse(text)) ? undefined : text
  return /^-?\d+$/.test(text) ? text : undefined
}

/** Negative: a before b. Integers of any size; times to their last digit. */
export function compareSince(a: string, b: string, kind: SinceKind): number {
  if (kind === 'time' || kind === 'date')
    return Date.parse(a) - Date.parse(b) || fraction(a).localeCompare(fraction(b), 'en')
  if (kind === 'text') return a < b ? -1 : a > b ? 1 : 0
  const [first, second] = [BigInt(a), BigInt(b)]
  return first < second ? -1 : first > second ? 1 : 0
}

/** What is asked for: the value itself, exactly, or so much before it. */
export function sinceText(value: string, kind: SinceKind, lagMs: number): string {
  if (kind === 'date') return new Date(Date.parse(value) - lagMs).toISOString().slice(0, 10)
  if (lagMs === 0 || kind === 'number' || kind === 'text') return value
  if (kind === 'time') return new Date(Date.parse(value) - lagMs).toISOString()
  return String(BigInt(value) - BigInt(kind === 'unix' ? Math.ceil(lagMs / 1000) : lagMs))
}

/** Digits of a second beyond milliseconds, which Date.parse leaves out. */
function fraction(time: string): string {
  return /\.\d{3}(\d+)/.exec(time)?.[1]?.replace(/0+$/, '') ?? ''
}

function unquoted(raw: string): string | undefined {
  try {
    return String(JSON.parse(raw))
  } catch {
    return undefined
  }
}
