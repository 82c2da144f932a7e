/** What the engine makes of a row for Kafka: key, value, headers and time, each as SQL. */
import { ident } from '../../engine/sql-text.ts'
import type { RecordOptions } from './record-options.ts'

/** SQL of the engine over a row of the batch. */
export interface Part {
  readonly sql: string
  /** BLOB, else VARCHAR. */
  readonly binary: boolean
}

export interface RecordParts {
  readonly key: Part | undefined
  readonly value: Part
  readonly headers: readonly (Part & { readonly name: string })[]
  /** SQL of a BIGINT, milliseconds since the epoch. */
  readonly timestamp: string | undefined
}

/** An expression of the options with its place there. */
export interface NamedExpression {
  readonly sql: string
  readonly path: readonly string[]
  /** What it must be made of; `time` is a timestamp, `timestamp` may be a number too. */
  readonly kind: 'text' | 'value' | 'timestamp' | 'time'
}

const HEADER_OF = { subject: 'ce_subject', time: 'ce_time' } as const

export function expressionsOf({ key, value, headers, timestamp, cloudevents }: RecordOptions): NamedExpression[] {
  const one = (sql: string | undefined, path: readonly string[], kind: NamedExpression['kind']): NamedExpression[] =>
    sql === undefined ? [] : [{ sql, path, kind }]
  return [
    ...one(key, ['key'], 'text'),
    ...one(value, ['value'], 'value'),
    ...Object.entries(headers).flatMap(([name, sql]) => one(sql, ['headers', name], 'text')),
    ...one(timestamp, ['timestamp'], 'timestamp'),
    ...one(cloudevents?.subject, ['cloudevents', 'subject'], 'text'),
    ...one(cloudevents?.time, ['cloudevents', 'time'], 'time'),
  ]
}

/** `types`: engine types of the expressions, in the order of expressionsOf(). `row`: SQL of the whole row as JSON. */
export function partsOf(options: RecordOptions, types: readonly string[], row: string): RecordParts {
  const typed = expressionsOf(options).map((own, index) => ({ ...own, type: types[index] ?? 'VARCHAR' }))
  const part = (...path: string[]): Part | undefined => {
    const found = typed.find((own) => own.path.join('\n') === path.join('\n'))
    return found === undefined ? undefined : written(found)
  }
  const headers = [
    ...Object.keys(options.headers).map((name) => ({ name, part: part('headers', name) })),
    ...Object.entries(HEADER_OF).map(([own, name]) => ({ name, part: part('cloudevents', own) })),
  ]
  return {
    key: part('key'),
    value: part('value') ?? { sql: row, binary: false },
    headers: headers.flatMap(({ name, part: own }) => (own === undefined ? [] : [{ name, ...own }])),
    timestamp: part('timestamp')?.sql,
  }
}

/** Whether an expression of this type is good for what it is meant for. */
export function fits({ kind }: NamedExpression, type: string): boolean {
  if (kind === 'time') return isTimestamp(type)
  return kind !== 'timestamp' || isTimestamp(type) || /^U?(?:TINY|SMALL|BIG)?INT(?:EGER)?$/.test(type)
}

function written({ sql, kind, type }: NamedExpression & { readonly type: string }): Part {
  const value = `(${sql}\n)`
  if (kind === 'timestamp') {
    const number = isTimestamp(type) ? `epoch_ms(CAST(${value} AS TIMESTAMP${zoned(type)}))` : value
    return { sql: `CAST(${number} AS BIGINT)`, binary: false }
  }
  if (kind === 'time') return { sql: instant(value, type), binary: false }
  if (type === 'BLOB') return { sql: value, binary: true }
  if (kind === 'text' || type === 'VARCHAR' || type === 'JSON')
    return { sql: `CAST(${value} AS VARCHAR)`, binary: false }
  return { sql: `CASE WHEN ${value} IS NOT NULL THEN to_json(${value})::VARCHAR END`, binary: false }
}

/** RFC 3339, in UTC. */
function instant(value: string, type: string): string {
  const utc = zoned(type) === '' ? `CAST(${value} AS TIMESTAMP)` : `timezone('UTC', ${value})`
  return `strftime(${utc}, '%Y-%m-%dT%H:%M:%S.%fZ')`
}

function zoned(type: string): string {
  return type === 'TIMESTAMP WITH TIME ZONE' ? ' WITH TIME ZONE' : ''
}

function isTimestamp(type: string): boolean {
  return /^(?:TIMESTAMP(?:_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE|DATE)$/.test(type)
}

/** SELECT of one BLOB per row over `{batch}`: see record-file.ts for what is in it. */
export function frameSelect({ key, value, headers, timestamp }: RecordParts): string {
  const fields = [...(key === undefined ? [] : [key]), value, ...headers]
  const names = fields.map((_, index) => ident(`f${index}`))
  const lengths = fields.map(({ binary }, index) => {
    const bytes = binary ? `octet_length(${names[index]})` : `strlen(${names[index]})`
    return `coalesce(${bytes} + 1, 0)`
  })
  const time = timestamp === undefined ? '' : `, coalesce(printf('%016d', ${ident('t')}), repeat(' ', 16))`
  const head = `concat(printf('${'%08x'.repeat(fields.length)}', ${lengths.join(', ')})${time})`
  const items = fields.map(({ sql }, index) => `${sql} AS ${names[index]}`)
  if (timestamp !== undefined) items.push(`${timestamp} AS ${ident('t')}`)
  const bytes = joined(head, fields, names)
  return `SELECT ${bytes} AS frame FROM (SELECT ${items.join(', ')} FROM {batch} AS batch)`
}

/** Texts that stand side by side are encoded at once. */
function joined(head: string, fields: readonly Part[], names: readonly string[]): string {
  const pieces: string[] = []
  let texts = [head]
  const flush = () => {
    if (texts.length > 0) pieces.push(`encode(concat(${texts.join(', ')}))`)
    texts = []
  }
  for (const [index, { binary }] of fields.entries()) {
    const name = names[index] ?? ''
    if (!binary) {
      texts.push(name)
      continue
    }
    flush()
    pieces.push(`coalesce(${name}, ''::BLOB)`)
  }
  flush()
  return pieces.join(' || ')
}
