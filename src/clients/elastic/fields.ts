/** Types of the engine as fields of an index, and how their values are written as JSON so that `_source` has each exactly. */
import { ident, literal } from '../../engine/sql-text.ts'
import { parseType, type TypeText } from '../../engine/type-text.ts'

/** A field as the index describes it: `type` (where there is none it is an object), `properties`, and other parameters. */
export interface Field {
  readonly type?: string
  readonly properties?: Fields
  readonly [parameter: string]: unknown
}

export type Fields = Readonly<Record<string, Field>>

interface Named {
  readonly name: string
  readonly type: string
}

/** A longer text would be refused: a term has at most 32,766 bytes, and a character at most four. It stays in `_source`. */
const KEYWORD: Field = { type: 'keyword', ignore_above: 8191 }
/** The field that every data stream has. */
export const STREAM_TIMESTAMP = '@timestamp'
/** Of a data stream, in which every document has its time: nothing is left out of the index. */
export const STREAM_TIME: Field = { type: 'date', format: 'strict_date_optional_time_nanos' }
/** Searched by milliseconds. What is no instant of the index (infinity, years before the common era) stays in `_source`. */
const INSTANT: Field = { ...STREAM_TIME, ignore_malformed: true }
/** NaN and the infinities stay in `_source`. */
const DOUBLE: Field = { type: 'double', ignore_malformed: true }
const OPAQUE: Field = { type: 'object', enabled: false }

const PLAIN: Readonly<Record<string, Field>> = {
  BOOLEAN: { type: 'boolean' },
  TINYINT: { type: 'long' },
  UTINYINT: { type: 'long' },
  SMALLINT: { type: 'long' },
  USMALLINT: { type: 'long' },
  INTEGER: { type: 'long' },
  UINTEGER: { type: 'long' },
  BIGINT: { type: 'long' },
  UBIGINT: { type: 'unsigned_long' },
  HUGEINT: KEYWORD,
  UHUGEINT: KEYWORD,
  FLOAT: DOUBLE,
  DOUBLE,
  VARCHAR: KEYWORD,
  UUID: KEYWORD,
  INTERVAL: KEYWORD,
  TIME: KEYWORD,
  'TIME WITH TIME ZONE': KEYWORD,
  BIT: KEYWORD,
  BLOB: { type: 'binary' },
  DATE: INSTANT,
  TIMESTAMP: INSTANT,
  TIMESTAMP_S: INSTANT,
  TIMESTAMP_MS: INSTANT,
  TIMESTAMP_NS: INSTANT,
  'TIMESTAMP WITH TIME ZONE': INSTANT,
  JSON: OPAQUE,
}

/** Of so many digits a double is nearer to its own decimal than to any other: scaled, it rounds to the same integer. */
const EXACT_DIGITS = 15

/** undefined: an index cannot hold the type. */
export function fieldOf(type: string): Field | undefined {
  return fieldOfTree(parseType(type))
}

function fieldOfTree(type: TypeText): Field | undefined {
  switch (type.kind) {
    case 'list':
      // Any field takes several values. Inside a list JSON is written as text.
      return isJson(type.item) ? KEYWORD : fieldOfTree(type.item)
    case 'map':
      // Its keys are data: each would become a field.
      return fieldOfTree(type.value) === undefined ? undefined : OPAQUE
    case 'struct': {
      const fields = type.fields.map(({ name, type: own }) => [name, isJson(own) ? KEYWORD : fieldOfTree(own)] as const)
      if (fields.some(([, field]) => field === undefined)) return undefined
      return { properties: Object.fromEntries(fields) as Fields }
    }
    case 'plain': {
      const [, digits, scale] = /^DECIMAL\((\d+),\s*(\d+)\)$/.exec(type.name) ?? []
      if (digits !== undefined)
        return Number(digits) <= EXACT_DIGITS ? { type: 'scaled_float', scaling_factor: 10 ** Number(scale) } : KEYWORD
      return type.name.startsWith('ENUM(') ? KEYWORD : PLAIN[type.name]
    }
  }
}

/** `chosen`: path of a field (`device.os`) → what its user wants of it, in the words of the index. */
export function fieldsOf(columns: readonly Named[], chosen: Fields): Fields {
  const own = columns.map(({ name, type }) => [name, withChoice(name, fieldOf(type) ?? KEYWORD, chosen)])
  return Object.fromEntries(own) as Fields
}

function withChoice(path: string, field: Field, chosen: Fields): Field {
  const { properties } = field
  const inner =
    properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(properties).map(([name, own]) => [name, withChoice(`${path}.${name}`, own, chosen)]),
          ),
        }
  const choice = chosen[path]
  return choice === undefined ? { ...field, ...inner } : { ...inner, ...choice }
}

/** SQL of one line: the row as a JSON object. */
export function documentSql(columns: readonly Named[]): string {
  const raw = columns.filter(({ type }) => type === 'JSON')
  const others = columns.filter(({ type }) => type !== 'JSON')
  const items = others.map(({ name, type }) => `${ident(name)} := ${valueSql(parseType(type), ident(name))}`)
  const object = others.length === 0 ? `'{}'` : `to_json(struct_pack(${items.join(', ')}))::VARCHAR`
  if (raw.length === 0) return object
  // As text: the engine's writer would make doubles of the numbers in it. Line ends stand only between its tokens.
  const members = raw.map(
    ({ name }, index) =>
      `'${index === 0 && others.length === 0 ? '' : ','}' || to_json(${literal(name)})::VARCHAR || ':' || coalesce(translate(${ident(name)}::VARCHAR, chr(10) || chr(13), '  '), 'null')`,
  )
  return `left(${object}, -1) || ${members.join(' || ')} || '}'`
}

function valueSql(type: TypeText, sql: string): string {
  switch (type.kind) {
    case 'list':
      return `list_transform(${sql}, lambda v: ${valueSql(type.item, 'v')})`
    case 'map':
      return `map_from_entries(list_transform(map_entries(${sql}), lambda v: struct_pack(k := v.key::VARCHAR, v := ${valueSql(type.value, 'v.value')})))`
    case 'struct': {
      const items = type.fields.map(
        ({ name, type: own }) => `${ident(name)} := ${valueSql(own, `(${sql}).${ident(name)}`)}`,
      )
      return `CASE WHEN ${sql} IS NOT NULL THEN struct_pack(${items.join(', ')}) END`
    }
    case 'plain':
      return plainSql(type.name, sql)
  }
}

function plainSql(type: string, sql: string): string {
  const kind = PLAIN[type]?.type
  if (type === 'VARCHAR' || kind === 'boolean' || kind === 'long' || kind === 'unsigned_long') return sql
  if (kind === 'double') return `CASE WHEN isfinite(${sql}) THEN to_json(${sql}) ELSE to_json((${sql})::VARCHAR) END`
  if (kind === 'binary') return `base64(${sql})`
  return type.startsWith('TIMESTAMP') ? instantSql(type, sql) : `(${sql})::VARCHAR`
}

/** ISO 8601 in UTC, with all its digits. What is no such instant goes as the engine writes it. */
function instantSql(type: string, sql: string): string {
  const text = type === 'TIMESTAMP WITH TIME ZONE' ? `timezone('UTC', ${sql})::VARCHAR` : `(${sql})::VARCHAR`
  return `CASE WHEN isfinite(${sql}) AND NOT contains(${text}, '(BC)') THEN replace(${text}, ' ', 'T') || 'Z' ELSE ${text} END`
}

function isJson(type: TypeText): boolean {
  return type.kind === 'plain' && type.name === 'JSON'
}
