/**
 * Columns of what is read, and how each is written so that none of its value is lost. Numbers that a double does not hold, and those that JSON
 * has no word for, are written as text by functions: a user with readonly = 1 cannot change the settings that would do it.
 */
import { AdflowError } from '../../core/errors.ts'
import type { SinceKind } from '../staging/since.ts'
import { ident, literal } from './sql-text.ts'

export interface SourceColumn {
  readonly name: string
  /** As the server writes it. */
  readonly type: string
}

/** A column that can be gone on by: its order is total, and its text gives the value back. */
export interface CursorColumn {
  readonly name: string
  readonly kind: Extract<SinceKind, 'time' | 'date' | 'number' | 'text'> | 'decimal'
  /** SQL of the value whose text stands in a record. */
  literal(text: string): string
}

const ALIAS = '__adflow_'

/** Inside the statement: no name of the outside can be mistaken for it. */
export function aliasOf(index: number): string {
  return `${ALIAS}${index}`
}

/** SQL of the text of a column. */
export function exactSql({ type }: SourceColumn, sql: string): string {
  const plain = plainType(type)
  if (/^(?:DateTime|DateTime64)\b/.test(plain)) return `concat(toString(toTimeZone(${sql}, 'UTC')), 'Z')`
  if (/^(?:U?Int(?:64|128|256)|Decimal|Float|BFloat)/.test(plain)) return `toString(${sql})`
  return sql
}

/** A value in a list, map or tuple is written by the server: this is what its settings must not lose. */
export function nests({ type }: SourceColumn, inner: RegExp): boolean {
  const plain = plainType(type)
  return /^(?:Array|Map|Tuple|Nested|Variant|Dynamic|JSON|Object)\b/.test(plain) && inner.test(plain)
}

/** @throws AdflowError SOURCE_MISSING, SOURCE_UNSUPPORTED */
export function cursorColumn(columns: readonly SourceColumn[], name: string, origin: string): CursorColumn {
  const column = columns.find((one) => one.name === name)
  if (column === undefined)
    throw new AdflowError('SOURCE_MISSING', `${origin} has no column ${name}`, {
      hint: `\`cursor\` and \`key\` name columns that are read: ${columns
        .map((one) => one.name)
        .slice(0, 30)
        .join(', ')}`,
    })
  const bare = unwrapped(column.type)
  const cast = (text: string) => `CAST(${literal(text.replace(/\0+$/, ''))} AS ${bare})`
  if (/^Nullable\(/.test(bare) || /^(?:LowCardinality\()?Nullable\(/.test(column.type))
    throw unfit(origin, column, 'rows without a value have no place in its order', `assumeNotNull(${ident(name)})`)
  if (/^U?Int\d+$/.test(bare)) return { name, kind: 'number', literal: cast }
  if (/^Decimal/.test(bare)) return { name, kind: 'decimal', literal: cast }
  if (/^Date(?:32)?$/.test(bare)) return { name, kind: 'date', literal: cast }
  const [, scale] = /^DateTime64\((\d)/.exec(bare) ?? []
  if (scale !== undefined || /^DateTime\b/.test(bare))
    return {
      name,
      kind: 'time',
      literal: (text) =>
        scale === undefined
          ? `toDateTime(${literal(text.replace(/Z$/, ''))}, 'UTC')`
          : `toDateTime64(${literal(text.replace(/Z$/, ''))}, ${scale}, 'UTC')`,
    }
  if (/^(?:String$|FixedString|UUID$|IPv[46]$|Enum|Bool$)/.test(bare))
    return { name, kind: 'text', literal: (text) => cast(inUtf8(text, origin, name)) }
  throw unfit(origin, column, 'its values have no total order that text could give back', `toString(${ident(name)})`)
}

/** So much before a value of the column: a duration for times, a number of its own for numbers. */
export function beforeSql(column: CursorColumn, value: string, lag: number): string {
  const sql = column.literal(value)
  if (lag === 0) return sql
  if (column.kind === 'date') return `${sql} - toIntervalDay(${Math.ceil(lag / 86_400_000)})`
  if (column.kind === 'time') return `${sql} - toIntervalMillisecond(${lag})`
  return `CAST(${literal(String(BigInt(value) - BigInt(lag)))} AS Int256)`
}

function unfit(origin: string, { name, type }: SourceColumn, why: string, sql: string): AdflowError {
  return new AdflowError('SOURCE_UNSUPPORTED', `${origin} cannot be read on by ${name}, a ${type}: ${why}`, {
    hint: `name other columns in \`cursor\`, or give the value a column of its own in \`query\`: SELECT *, ${sql} AS …`,
  })
}

/** A cursor of other bytes than the row's would lead elsewhere. */
function inUtf8(text: string, origin: string, name: string): string {
  if (!text.includes('\ufffd')) return text
  throw new AdflowError('SOURCE_UNSUPPORTED', `a value of ${name} of ${origin} is no text in UTF-8`, {
    hint: 'name other columns in `cursor`, or give it one in `query`: hex(…)',
  })
}

/** Without what only says how it is kept. */
function unwrapped(type: string): string {
  const [, inner] =
    /^LowCardinality\((.*)\)$/s.exec(type) ?? /^SimpleAggregateFunction\([^,]+, (.*)\)$/s.exec(type) ?? []
  return inner === undefined ? type : unwrapped(inner)
}

function plainType(type: string): string {
  const bare = unwrapped(type)
  return /^Nullable\((.*)\)$/s.exec(bare)?.[1] ?? bare
}
