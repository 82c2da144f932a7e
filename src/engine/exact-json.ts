/**
 * Values as JSON from which the strict casts of read-plan.ts make the very same values again: what passes between the
 * stages of a pipe. Decimals and 128-bit integers are text, points in time ISO 8601, NaN and the infinities text.
 */
import { ident, literal } from './sql-text.ts'
import type { TypeTree } from './types.ts'

/** Written as JSON as they are. */
const PLAIN = new Set([
  'BOOLEAN',
  'TINYINT',
  'SMALLINT',
  'INTEGER',
  'BIGINT',
  'UTINYINT',
  'USMALLINT',
  'UINTEGER',
  'UBIGINT',
])
/** Whose text is known to give the value back; the text of any other type is cast back and compared. */
const BY_TEXT = new Set(['HUGEINT', 'UHUGEINT', 'DATE', 'TIME', 'UUID', 'INTERVAL', 'BLOB'])

/** SQL whose value the engine's JSON writer writes exactly. `sql` is SQL of a value of the type. */
export function exactJson(type: TypeTree, sql: string): string {
  if (isPlain(type)) return sql
  switch (type.kind) {
    case 'struct': {
      const fields = (type.fields ?? []).map(
        (field) => `${ident(field.name)} := ${exactJson(field.type, `(${sql}).${ident(field.name)}`)}`,
      )
      return `CASE WHEN ${sql} IS NOT NULL THEN struct_pack(${fields.join(', ')}) END`
    }
    case 'list':
      return `list_transform(${sql}, lambda v: ${type.item === undefined ? 'v' : exactJson(type.item, 'v')})`
    case 'map':
      return checked(`(${sql})::MAP(VARCHAR, VARCHAR)`, type, sql)
    case 'decimal':
      return `(${sql})::VARCHAR`
    case 'timestamp':
      return instant(sql)
    case 'timestamptz':
      return instant(`timezone('UTC', ${sql})`)
    default:
      if (type.sql === 'DOUBLE' || type.sql === 'FLOAT')
        return `CASE WHEN isfinite(${sql}) THEN to_json(${sql}) ELSE to_json((${sql})::VARCHAR) END`
      return BY_TEXT.has(type.sql) ? `(${sql})::VARCHAR` : checked(`(${sql})::VARCHAR`, type, sql)
  }
}

function isPlain(type: TypeTree): boolean {
  if (type.kind === 'struct') return (type.fields ?? []).every((field) => isPlain(field.type))
  if (type.kind === 'list') return type.item !== undefined && isPlain(type.item)
  return type.kind === 'text' || type.kind === 'json' || PLAIN.has(type.sql)
}

/** With a Z, which keeps nanoseconds: anything else is read as a timestamp with microseconds. */
function instant(sql: string): string {
  const text = `(${sql})::VARCHAR`
  return `CASE WHEN NOT isfinite(${sql}) THEN ${text} WHEN contains(${text}, '(BC)') THEN ${text} || 'Z' ELSE replace(${text}, ' ', 'T') || 'Z' END`
}

/** A value that would change on its way through JSON is refused: a pipe that alters data in silence is worse than none. */
function checked(json: string, type: TypeTree, sql: string): string {
  const message = literal(`a value of the type ${type.sql} does not survive as JSON`)
  return `CASE WHEN TRY_CAST(${json} AS ${type.sql}) IS DISTINCT FROM ${sql} THEN error(${message}) ELSE ${json} END`
}
