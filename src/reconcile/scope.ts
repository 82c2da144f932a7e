/** What is compared, in which types, by which key, in which buckets: from the flags, the job's `reconcile` block, and the two sides. */
import { widened } from '../clients/duckdb/widen.ts'
import type { Bucketing, CompareScope, Comparison, OpenComparison, RowDigest } from '../core/comparison.ts'
import type { Column } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { didYouMean } from '../core/job/suggest.ts'

/** Flags of the command over the defaults of the job. */
export interface Wishes {
  readonly by: 'time' | 'key' | undefined
  readonly column: string | undefined
  readonly widthMs: number
  readonly key: readonly string[] | undefined
  readonly sums: readonly string[]
  /** Milliseconds since the epoch, half open. */
  readonly from?: number
  readonly to?: number
  readonly settleMs: number
}

export interface ScopeSide {
  /** For people. */
  readonly name: string
  readonly open: OpenComparison
  readonly comparison: Pick<Comparison, 'key' | 'write' | 'digests'>
}

export interface ScopeParts {
  /** Of the output that the stores read, as the job makes them. */
  readonly columns: readonly Column[]
  /** Columns by which a step of the job tells rows apart. */
  readonly stepKey: readonly string[] | undefined
  readonly sides: readonly ScopeSide[]
  /** Rows to be expected. */
  readonly rows: number
}

const ROWS_PER_BUCKET = 5_000
const [FEWEST_BUCKETS, MOST_BUCKETS] = [64, 65_536]
const TIME_TYPES = ['TIMESTAMP', 'TIMESTAMP WITH TIME ZONE', 'DATE']
const EXACT_NUMBER = /^(U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|DECIMAL\(.*)$/

export function scopeOf(wishes: Wishes, parts: ScopeParts): CompareScope {
  const columns = parts.columns.map(({ name, type }) => ({ name, type: typeIn(parts.sides, name, type) }))
  const names = columns.map(({ name }) => name)
  const known = (name: string, what: string) => {
    const found = columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
    if (found !== undefined) return found
    throw new AdflowError('USAGE', `${what}: there is no column ${name}`, {
      hint: didYouMean(name, names) ?? `columns: ${names.join(', ')}`,
    })
  }
  const time = wishes.column === undefined ? firstTime(columns) : known(wishes.column, '--column')
  if (time !== undefined && !TIME_TYPES.includes(time.type))
    throw new AdflowError('USAGE', `--column: ${time.name} is ${time.type}, not a time or a date`)
  const by = wishes.by ?? (time === undefined ? 'key' : 'time')
  const limited = wishes.from !== undefined || wishes.to !== undefined
  if (time === undefined && (by === 'time' || limited))
    throw new AdflowError('USAGE', 'there is no column with a time, so rows have none', {
      hint: 'leave out --from, --to and --by time; rows are compared by key',
    })
  for (const name of wishes.sums)
    if (!EXACT_NUMBER.test(known(name, '--sum').type))
      throw new AdflowError(
        'USAGE',
        `--sum: ${name} is ${known(name, '--sum').type}; only integers and decimals have exact sums`,
      )
  return {
    digest: digestOf(parts.sides),
    columns,
    key: keyOf(wishes, parts, (name) => known(name, '--key').name) ?? names,
    sums: wishes.sums.map((name) => known(name, '--sum').name),
    bucket: bucketing(by, time, wishes.widthMs, parts.rows),
    ...rangeOf(wishes, time?.name),
  }
}

function firstTime(columns: CompareScope['columns']): CompareScope['columns'][number] | undefined {
  return columns.find(({ type }) => TIME_TYPES.includes(type))
}

function bucketing(
  by: 'time' | 'key',
  time: { readonly name: string } | undefined,
  widthMs: number,
  rows: number,
): Bucketing {
  if (by === 'time' && time !== undefined) return { by, column: time.name, widthUs: Math.max(1, widthMs) * 1000 }
  return { by: 'key', count: Math.min(MOST_BUCKETS, Math.max(FEWEST_BUCKETS, Math.ceil(rows / ROWS_PER_BUCKET))) }
}

function rangeOf({ from, to, settleMs }: Wishes, column: string | undefined): Pick<CompareScope, 'range'> {
  const settled = to ?? (settleMs > 0 ? Date.now() - settleMs : undefined)
  if (column === undefined || (from === undefined && settled === undefined)) return {}
  return {
    range: {
      column,
      ...(from === undefined ? {} : { from: from * 1000 }),
      ...(settled === undefined ? {} : { to: settled * 1000 }),
    },
  }
}

/** The best that all sides can. */
function digestOf(sides: readonly ScopeSide[]): RowDigest {
  const [first, ...others] = sides.map(({ comparison }) => comparison.digests)
  return first?.find((digest) => others.every((own) => own.includes(digest))) ?? 'md5'
}

function keyOf(
  { key }: Wishes,
  { sides, stepKey, columns }: ScopeParts,
  spelled: (name: string) => string,
): readonly string[] | undefined {
  const own = sides.map(({ comparison }) => comparison.key).find((columns) => columns !== undefined)
  const merged = sides.find(({ comparison }) => comparison.write === 'merge')
  if (key !== undefined && merged?.comparison.key !== undefined && !sameNames(key, merged.comparison.key))
    throw new AdflowError(
      'USAGE',
      `${merged.name} merges by ${merged.comparison.key.join(', ')}; it cannot be compared by ${key.join(', ')}`,
    )
  const chosen = key ?? own
  if (chosen !== undefined) return chosen.map(spelled)
  const there = new Set(columns.map(({ name }) => name))
  return stepKey?.every((name) => there.has(name)) === true ? stepKey : undefined
}

function sameNames(one: readonly string[], other: readonly string[]): boolean {
  const names = (list: readonly string[]) => JSON.stringify(list.map((name) => name.toLowerCase()).sort())
  return names(one) === names(other)
}

/** The widest that a side has it in, where every value of the job fits exactly. */
function typeIn(sides: readonly ScopeSide[], name: string, type: string): string {
  return sides.reduce((wide, { name: side, open }) => {
    const found = open.columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
    if (found === undefined)
      throw new AdflowError('STORE_MISMATCH', `${side} has no column ${name}, which the job makes`, {
        hint: 'a run of the job adds it, where the store takes new columns',
      })
    const both = widened(found.type, wide)
    if (both === undefined)
      throw new AdflowError('STORE_MISMATCH', `column ${name} is ${found.type} in ${side}; the job makes ${type}`, {
        hint: 'values of different types are not compared: change the table, or cast the column in the job',
      })
    return both
  }, type)
}
