/** Types of the engine as columns of ClickHouse, and how their values are written to Parquet so that each arrives exactly. */

import * as duck from '../../engine/sql-text.ts'
import { parseType, type TypeText } from '../../engine/type-text.ts'
import { ident } from './sql-text.ts'

export interface ClickHouseColumn {
  readonly name: string
  /** Of ClickHouse. */
  readonly type: string
  /** A moment rather than a reading of a calendar and a clock: the time zone of the column is only how it is shown. */
  readonly zoned: boolean
  /** SQL of the engine: the value as Parquet takes it. Raises, beginning with REFUSED, where ClickHouse cannot hold it. */
  readonly sql: string
}

export interface TypeOptions {
  readonly nested: 'native' | 'json'
  /** Columns that are made without Nullable. */
  readonly notNull: readonly string[]
  /** Years that a DateTime64 of this server holds. */
  readonly years: Years
}

export interface Years {
  readonly first: number
  readonly last: number
}

export const REFUSED = 'ClickHouse cannot hold'

/** Of Date32, and of a DateTime64 of older servers. */
export const NARROW: Years = { first: 1900, last: 2299 }
export const WIDE: Years = { first: 1, last: 9999 }

const PLAIN: Readonly<Record<string, string>> = {
  BOOLEAN: 'Bool',
  TINYINT: 'Int8',
  UTINYINT: 'UInt8',
  SMALLINT: 'Int16',
  USMALLINT: 'UInt16',
  INTEGER: 'Int32',
  UINTEGER: 'UInt32',
  BIGINT: 'Int64',
  UBIGINT: 'UInt64',
  FLOAT: 'Float32',
  DOUBLE: 'Float64',
  VARCHAR: 'String',
  JSON: 'String',
  BLOB: 'String',
  UUID: 'UUID',
}

/** Parquet has no like of them that keeps them exact: they go as text. */
const AS_TEXT: Readonly<Record<string, string>> = {
  HUGEINT: 'Int128',
  UHUGEINT: 'UInt128',
  BIGNUM: 'String',
  TIME: 'String',
  TIME_NS: 'String',
  'TIME WITH TIME ZONE': 'String',
  INTERVAL: 'String',
  BIT: 'String',
}

const DATED: Readonly<Record<string, string>> = {
  DATE: 'Date32',
  TIMESTAMP_S: "DateTime64(0, 'UTC')",
  TIMESTAMP_MS: "DateTime64(3, 'UTC')",
  TIMESTAMP: "DateTime64(6, 'UTC')",
  'TIMESTAMP WITH TIME ZONE': "DateTime64(6, 'UTC')",
  TIMESTAMP_NS: "DateTime64(9, 'UTC')",
}

interface Mapping {
  readonly type: string
  /** Array, Tuple and Map take no Nullable. */
  readonly nullable: boolean
  /** true: the value goes as it is. */
  readonly plain: boolean
  sql(value: string, depth: number): string
}

/** undefined: ClickHouse cannot hold the type exactly. */
export function isHeld(type: string): boolean {
  return mappingOf('', parseType(type), NARROW) !== undefined
}

/** Where `nested: native` would refuse a NULL. */
export function isNested(type: string): boolean {
  return parseType(type).kind !== 'plain'
}

export function clickHouseColumns(
  columns: readonly { readonly name: string; readonly type: string }[],
  { nested, notNull, years }: TypeOptions,
): ClickHouseColumn[] {
  return columns.map(({ name, type }) => {
    const value = duck.ident(name)
    const zoned = type === 'TIMESTAMP WITH TIME ZONE'
    if (nested === 'json' && isNested(type)) {
      const sql = `CASE WHEN ${value} IS NOT NULL THEN to_json(${value})::VARCHAR END`
      return { name, type: nullableUnless(notNull.includes(name), 'String'), zoned, sql }
    }
    const mapping = mappingOf(name, parseType(type), years) ?? asText('String')
    if (type.startsWith('ENUM'))
      return {
        name,
        type: `LowCardinality(${nullableUnless(notNull.includes(name), 'String')})`,
        zoned,
        sql: mapping.sql(value, 0),
      }
    return {
      name,
      type: mapping.nullable ? nullableUnless(notNull.includes(name), mapping.type) : mapping.type,
      zoned,
      sql: mapping.sql(value, 0),
    }
  })
}

function nullableUnless(not: boolean, type: string): string {
  return not ? type : `Nullable(${type})`
}

function mappingOf(column: string, tree: TypeText, years: Years): Mapping | undefined {
  switch (tree.kind) {
    case 'plain':
      return scalar(column, tree.name, years)
    case 'list':
      return list(column, mappingOf(column, tree.item, years))
    case 'map':
      return map(column, mappingOf(column, tree.key, years), mappingOf(column, tree.value, years))
    case 'struct':
      return struct(
        column,
        tree.fields.map(({ name, type }) => ({ name, mapping: mappingOf(column, type, years) })),
      )
  }
}

function scalar(column: string, type: string, years: Years): Mapping | undefined {
  const [, precision, scale] = /^DECIMAL\((\d+),\s*(\d+)\)$/.exec(type) ?? []
  if (precision !== undefined) return asItIs(`Decimal(${precision}, ${scale})`)
  const plain = PLAIN[type]
  if (plain !== undefined) return asItIs(plain)
  const text = type.startsWith('ENUM') ? 'String' : AS_TEXT[type]
  if (text !== undefined) return asText(text)
  const dated = DATED[type]
  if (dated === undefined) return undefined
  const held = dated === 'Date32' ? NARROW : years
  const refused = refusal(column, `a date outside of the years ${held.first} to ${held.last}`)
  return {
    type: dated,
    nullable: true,
    plain: false,
    sql: (value) => `CASE WHEN ${outside(value, type, held)} THEN ${refused} ELSE ${value} END`,
  }
}

/** By comparisons, which infinities fail too: to ask each value for its year costs a tenth of the encoding. Nanoseconds do not reach the
 *  edges, which have no literal therefore. */
function outside(value: string, type: string, { first, last }: Years): string {
  if (type === 'TIMESTAMP_NS') return `NOT isfinite(${value}) OR year(${value}) NOT BETWEEN ${first} AND ${last}`
  const edge = (year: number) =>
    `'${String(year).padStart(4, '0')}-01-01${type === 'TIMESTAMP WITH TIME ZONE' ? ' 00:00:00+00' : ''}'::${type}`
  return `${value} < ${edge(first)} OR ${value} >= ${edge(last + 1)}`
}

function asItIs(type: string): Mapping {
  return { type, nullable: true, plain: true, sql: (value) => value }
}

function asText(type: string): Mapping {
  return { type, nullable: true, plain: false, sql: (value) => `CAST(${value} AS VARCHAR)` }
}

function list(column: string, element: Mapping | undefined): Mapping | undefined {
  if (element === undefined) return undefined
  return whole(column, 'a NULL list', `Array(${inner(element)})`, (value, depth) =>
    element.plain ? value : `list_transform(${value}, lambda x${depth}: ${element.sql(`x${depth}`, depth + 1)})`,
  )
}

function map(column: string, key: Mapping | undefined, value: Mapping | undefined): Mapping | undefined {
  if (key === undefined || value === undefined || !key.nullable) return undefined
  return whole(column, 'a NULL map', `Map(${key.type}, ${inner(value)})`, (held, depth) => {
    if (key.plain && value.plain) return held
    const x = `x${depth}`
    const entry = `{'key': ${key.sql(`${x}.key`, depth + 1)}, 'value': ${value.sql(`${x}.value`, depth + 1)}}`
    return `map_from_entries(list_transform(map_entries(${held}), lambda ${x}: ${entry}))`
  })
}

function struct(
  column: string,
  fields: readonly { readonly name: string; readonly mapping: Mapping | undefined }[],
): Mapping | undefined {
  const known = fields.flatMap(({ name, mapping }) => (mapping === undefined ? [] : [{ name, mapping }]))
  if (known.length < fields.length) return undefined
  const type = `Tuple(${known.map(({ name, mapping }) => `${ident(name)} ${inner(mapping)}`).join(', ')})`
  return whole(column, 'a NULL struct', type, (value, depth) => {
    if (known.every(({ mapping }) => mapping.plain)) return value
    const items = known.map(
      ({ name, mapping }) => `${duck.ident(name)} := ${mapping.sql(`(${value}).${duck.ident(name)}`, depth + 1)}`,
    )
    return `struct_pack(${items.join(', ')})`
  })
}

/** What has no Nullable in ClickHouse: a NULL would become an empty value in silence. */
function whole(column: string, what: string, type: string, sql: (value: string, depth: number) => string): Mapping {
  const refused = refusal(column, what)
  return {
    type,
    nullable: false,
    plain: false,
    sql: (value, depth) => `CASE WHEN ${value} IS NULL THEN ${refused} ELSE ${sql(value, depth)} END`,
  }
}

function inner({ nullable, type }: Mapping): string {
  return nullable ? `Nullable(${type})` : type
}

function refusal(column: string, what: string): string {
  return `error(${duck.literal(`${REFUSED} ${what}, as column ${column} has it`)})`
}
