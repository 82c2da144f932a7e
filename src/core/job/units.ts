/**
 * Durations and sizes as people write them. For options with a default use `.prefault('15m')`: the default is text too,
 * and the reference shows it as such.
 */
import { z } from 'zod'

const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}

const WHOLE_UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
] as const

const SIZE_BYTES: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}

const DURATION_PATTERN = /^([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)$/
const SIZE_PATTERN = /^([0-9]+(?:\.[0-9]+)?)\s*([kmgtKMGT]?i?[bB])$/
const DURATION_HELP = 'expected a duration with its unit: `250ms`, `30s`, `15m`, `6h`, `7d` or `2w`'
const SIZE_HELP = 'expected a size with its unit, such as `64MB` (10^6 bytes each) or `64MiB` (2^20 bytes each)'

/** Milliseconds, or undefined where the text is no duration. */
export function parseDuration(text: string): number | undefined {
  return parse(text, DURATION_PATTERN, DURATION_MS)
}

/** Bytes, or undefined where the text is no size. */
export function parseBytes(text: string): number | undefined {
  return parse(text, SIZE_PATTERN, SIZE_BYTES)
}

/** The size for people, such as `1.5 GB`. */
export function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let amount = bytes
  let unit = 0
  while (amount >= 1000 && unit < units.length - 1) {
    amount /= 1000
    unit += 1
  }
  return `${amount.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`
}

/** The duration for people, in the largest unit that divides it: `90s`, `250ms`. */
export function durationText(ms: number): string {
  const [unit, size] = WHOLE_UNITS.find(([, size]) => ms > 0 && ms % size === 0) ?? ['ms', 1]
  return `${ms / size}${unit}`
}

function parse(text: string, pattern: RegExp, units: Readonly<Record<string, number>>): number | undefined {
  const [, amount, unit] = pattern.exec(text.trim()) ?? []
  const factor = units[unit?.toLowerCase() ?? '']
  const value = Math.round(Number(amount) * (factor ?? Number.NaN))
  return Number.isSafeInteger(value) ? value : undefined
}

function unit(read: (text: string) => number | undefined, help: string, examples: string[]) {
  return z
    .string({ error: help })
    .meta({ examples })
    .transform((text, context) => {
      const value = read(text)
      if (value !== undefined) return value
      context.addIssue({ code: 'custom', message: `${help}; got \`${text}\`` })
      return z.NEVER
    })
}

/** '250ms', '15m', '6h', '7d' → milliseconds. */
export const duration = unit(parseDuration, DURATION_HELP, ['250ms', '15m', '6h', '7d'])

/** '64MB', '10GiB' → bytes. */
export const byteSize = unit(parseBytes, SIZE_HELP, ['64MB', '10GiB'])
