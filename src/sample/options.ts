/** What the user asked for, made definite: counts, files and the batch to generate. */
import { AdflowError } from '../core/errors.ts'
import { countsOf, DEFECT_CLASSES, type DefectClass, type DefectCounts, totalOf } from './defects.ts'
import type { SampleFormat } from './render.ts'
import type { Batch } from './traffic.ts'
import type { Truth } from './truth.ts'

/** Options of `adflow sample`; what is left out gets SAMPLE_DEFAULTS or, with `append`, the value of the folder. */
export interface SampleOptions {
  readonly dir: string
  /** Records to write, defects and duplicates included. */
  readonly rows?: number | undefined
  readonly seed?: number | undefined
  readonly format?: SampleFormat | undefined
  readonly gzip?: boolean | undefined
  /** Number of (new) files. */
  readonly files?: number | undefined
  /** First day, `YYYY-MM-DD` (UTC). */
  readonly start?: string | undefined
  readonly days?: number | undefined
  /** A rate for each class (`0.001`, `0.1%`), `none`, or counts or rates by class: `late=20,duplicate=1%` (others none). */
  readonly defects?: string | undefined
  /** Add to the sample in `dir`. */
  readonly append?: boolean | undefined
  /** Replace the sample in `dir`. */
  readonly force?: boolean | undefined
}

export const SAMPLE_DEFAULTS = {
  rows: 100_000,
  seed: 1,
  format: 'ndjson',
  files: 4,
  start: '2026-03-01',
  days: 1,
  defects: '0.1%',
} as const

/** Bounds that keep the generator's integer arithmetic exact. */
const SAMPLE_LIMITS = { rows: 1_000_000_000, files: 9_999, days: 366 } as const

/** Records `[from, to)` of the batch and the file that they go to. */
export interface Part {
  readonly name: string
  readonly from: number
  readonly to: number
  /** Bytes that the file has already; undefined: the file is new. */
  readonly after: number | undefined
}

export interface SamplePlan {
  readonly format: SampleFormat
  readonly compression: 'none' | 'gzip'
  readonly batch: Batch
  readonly parts: readonly Part[]
}

/** `before` is the truth of the folder that is appended to. Throws USAGE where options contradict each other. */
export function planSample(options: SampleOptions, before: Truth | undefined): SamplePlan {
  const rows = inBounds('rows', options.rows ?? SAMPLE_DEFAULTS.rows, SAMPLE_LIMITS.rows)
  const days = inBounds('days', options.days ?? SAMPLE_DEFAULTS.days, SAMPLE_LIMITS.days)
  const usual = before === undefined ? Math.min(SAMPLE_DEFAULTS.files, rows) : 1
  const files = inBounds('files', options.files ?? usual, SAMPLE_LIMITS.files)
  if (before !== undefined) refuseOtherShape(options, before)
  const seed = before?.seed ?? options.seed ?? SAMPLE_DEFAULTS.seed
  if (!Number.isSafeInteger(seed) || seed < 0) throw usage(`--seed must be an integer from 0, found ${seed}`)
  const format = before?.format ?? options.format ?? SAMPLE_DEFAULTS.format
  const compression = before?.compression ?? (options.gzip === true ? 'gzip' : 'none')
  if (format === 'parquet' && compression === 'gzip')
    throw usage('--gzip does not go with --format parquet: Parquet files are compressed inside')
  if (files > rows) throw usage(`cannot spread ${rows} records over ${files} files`, 'lower --files')
  const batch: Batch = {
    seed,
    index: before?.batches.length ?? 0,
    first: before?.rows ?? 0,
    rows,
    startMs: before === undefined ? midnight(options.start ?? SAMPLE_DEFAULTS.start) : Date.parse(before.end),
    days,
    defects: parseDefects(options.defects ?? SAMPLE_DEFAULTS.defects, rows, format),
  }
  return { format, compression, batch, parts: partsOf(rows, files, format, compression, before) }
}

function refuseOtherShape(options: SampleOptions, before: Truth): void {
  const others: [string, unknown, unknown][] = [
    ['--seed', options.seed, before.seed],
    ['--format', options.format, before.format],
    ['--gzip', options.gzip === true ? 'gzip' : undefined, before.compression],
  ]
  for (const [flag, asked, is] of others)
    if (asked !== undefined && asked !== is)
      throw usage(
        `--append goes on with the sample in ${options.dir}: ${flag} is ${is} there, not ${asked}`,
        `leave ${flag} out`,
      )
  if (options.start !== undefined)
    throw usage(`--append goes on at ${before.end}, where the sample in ${options.dir} ends`, 'leave --start out')
}

/** Text without compression goes on in the last file first, as a log does; everything else only in new files. */
function partsOf(
  rows: number,
  files: number,
  format: SampleFormat,
  compression: string,
  before: Truth | undefined,
): readonly Part[] {
  const ending = `${format}${compression === 'gzip' ? '.gz' : ''}`
  const last = format === 'parquet' || compression === 'gzip' ? undefined : before?.files.at(-1)
  const present = before?.files.length ?? 0
  const pieces = files + (last === undefined ? 0 : 1)
  return Array.from({ length: pieces }, (_, i): Part => {
    const number = present + i + (last === undefined ? 1 : 0)
    return {
      name: `events-${String(number).padStart(4, '0')}.${ending}`,
      from: Math.floor((i * rows) / pieces),
      to: Math.floor(((i + 1) * rows) / pieces),
      after: i === 0 ? last?.bytes : undefined,
    }
  }).filter(({ from, to }) => to > from)
}

/** Exact counts for `rows` records. Parquet has no malformed records: its count is 0 there. */
export function parseDefects(text: string, rows: number, format: SampleFormat): DefectCounts {
  const possible = (name: DefectClass): boolean => name !== 'malformed' || format !== 'parquet'
  const counts = text.includes('=') ? byClass(text, rows) : everyClass(text, rows)
  const given = countsOf((name) => (possible(name) ? counts[name] : 0))
  if (totalOf(given) * 2 > rows)
    throw usage(
      `--defects asks for ${totalOf(given)} defects in ${rows} records; at most half of the records may have one`,
    )
  return given
}

function everyClass(text: string, rows: number): DefectCounts {
  if (text === 'none') return countsOf(() => 0)
  const count = amount(text, rows, 'a rate such as 0.001 or 0.1%')
  if (!text.endsWith('%') && Number(text) >= 1)
    throw usage(
      `--defects ${text} is no rate: it must be below 1`,
      'write 0.1%, or counts by class: late=20,duplicate=30',
    )
  return countsOf(() => count)
}

function byClass(text: string, rows: number): DefectCounts {
  const counts = new Map<string, number>()
  for (const part of text.split(',')) {
    const [name = '', value = ''] = part.split('=').map((piece) => piece.trim())
    if (!DEFECT_CLASSES.some((known) => known === name))
      throw usage(`--defects names the unknown class “${name}”`, `classes: ${DEFECT_CLASSES.join(', ')}`)
    counts.set(name, amount(value, rows, `a count or a rate for ${name}`))
  }
  return countsOf((name) => counts.get(name) ?? 0)
}

/** `20` is a count; `0.001` and `0.1%` are shares of the records. */
function amount(text: string, rows: number, what: string): number {
  const [, digits, percent] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text) ?? []
  if (digits === undefined) throw usage(`--defects: expected ${what}, found “${text}”`)
  if (percent === '%') return Math.round((Number(digits) / 100) * rows)
  return digits.includes('.') ? Math.round(Number(digits) * rows) : Number(digits)
}

function midnight(day: string): number {
  const ms = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(`${day}T00:00:00Z`) : Number.NaN
  if (Number.isNaN(ms) || !new Date(ms).toISOString().startsWith(day))
    throw usage(`--start must be a day such as ${SAMPLE_DEFAULTS.start}, found “${day}”`)
  return ms
}

function inBounds(name: 'rows' | 'files' | 'days', value: number, most: number): number {
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw usage(`--${name} must be an integer from 1 to ${most}, found ${value}`)
  return value
}

export const usage = (message: string, hint?: string): AdflowError =>
  new AdflowError('USAGE', message, hint === undefined ? {} : { hint })

/** `100000`, `500k`, `2M`, `1_000_000`. */
export function parseCount(text: string): number {
  const [, digits = '', unit = ''] = /^(\d[\d_]*)([kM]?)$/.exec(text) ?? []
  if (digits === '') throw usage(`expected a count such as 100000, 500k or 2M, found “${text}”`)
  return Number(digits.replaceAll('_', '')) * (unit === 'M' ? 1_000_000 : unit === 'k' ? 1_000 : 1)
}
