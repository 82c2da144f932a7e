/** A row as one JSON object, with the values that NDJSON files have, and each of them exact (see exact.ts). */
import type { TypedColumn } from './exact.ts'
import { writtenType } from './exact.ts'
import { ident, literal } from './sql-text.ts'

/** SQL of a VARCHAR over a row with these columns. */
export function rowJson(columns: readonly TypedColumn[]): string {
  if (!columns.some(isJson)) {
    const fields = columns.map((column) => `${ident(column.name)} := ${exactValue(column)}`)
    return `to_json(struct_pack(${fields.join(', ')}))::VARCHAR`
  }
  // Inside a struct JSON would be parsed again, and its long numbers rounded: it goes in as it is.
  const members = columns.map((column) => {
    const value = isJson(column) ? `${ident(column.name)}::VARCHAR` : `to_json(${exactValue(column)})::VARCHAR`
    return `${literal(`${JSON.stringify(column.name)}:`)} || coalesce(${value}, 'null')`
  })
  return `'{' || ${members.join(` || ',' || `)} || '}'`
}

function isJson({ type }: TypedColumn): boolean {
  return type === 'JSON'
}

function exactValue({ name, type }: TypedColumn): string {
  const value = ident(name)
  // JSON has no NaN and no infinity.
  if (type === 'DOUBLE' || type === 'FLOAT')
    return `CASE WHEN isfinite(${value}) THEN to_json(${value}) ELSE to_json(${value}::VARCHAR) END`
  const written = writtenType(type, 'ndjson')
  return written === type ? value : `CAST(${value} AS ${written})`
}
