/** Columns of a table as the server writes them out, so that the engine reads each value exactly. */
import { AdflowError } from '../../../core/errors.ts'
import { didYouMean } from '../../../core/job/suggest.ts'
import { ident } from '../../../engine/sql-text.ts'
import type { ReadSession } from './session.ts'

export interface SourceColumn {
  readonly name: string
  /** As format_type() names it. */
  readonly type: string
  /** typcategory of what it is made of. */
  readonly category: string
}

export interface SourceTable {
  readonly oid: string
  readonly schema: string
  readonly table: string
  /** relkind */
  readonly kind: string
  readonly columns: readonly SourceColumn[]
}

/** `name` as in SQL: `events`, `public.events`, `"Odd name"`. @throws AdflowError SOURCE_MISSING, SOURCE_DENIED */
export async function describeTable(
  session: ReadSession,
  name: string,
  wanted: readonly string[] | undefined,
): Promise<SourceTable> {
  const found = await session.one(
    'SELECT c.oid, n.nspname AS schema, c.relname AS table, c.relkind AS kind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)',
    [name],
  )
  if (found['oid'] === undefined)
    throw missing(`there is no table ${name}`, 'check its name, its schema, and the search_path of the user')
  const rows = await session.query(
    `SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, coalesce(b.typcategory, t.typcategory) AS category, coalesce(b.typname, t.typname) AS base
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [found['oid']],
  )
  const all = rows.map(({ name, base, category }) => ({ name: name ?? '', type: base ?? '', category: category ?? '' }))
  const columns = (wanted ?? all.map(({ name }) => name)).map((name) =>
    requireColumn(all, name, `${found['schema']}.${found['table']}`),
  )
  const text = (key: string) => found[key] ?? ''
  return { oid: text('oid'), schema: text('schema'), table: text('table'), kind: text('kind'), columns }
}

export function requireColumn(columns: readonly SourceColumn[], name: string, where: string): SourceColumn {
  const column = columns.find((one) => one.name === name)
  if (column !== undefined) return column
  const names = columns.map((one) => one.name)
  throw missing(`${where} has no column ${name}`, didYouMean(name, names) ?? `columns there: ${names.join(', ')}`)
}

/** Columns of a query. */
export async function typesOf(
  session: ReadSession,
  fields: readonly { readonly name: string; readonly type: number }[],
): Promise<readonly SourceColumn[]> {
  const rows = await session.query(
    'SELECT t.oid, coalesce(b.typname, t.typname) AS type, coalesce(b.typcategory, t.typcategory) AS category FROM pg_type t LEFT JOIN pg_type b ON b.oid = t.typbasetype WHERE t.oid = ANY($1::oid[])',
    [fields.map(({ type }) => type)],
  )
  const known = new Map(rows.map((row) => [Number(row['oid']), row]))
  return fields.map(({ name, type }) => {
    const row = known.get(type)
    return { name, type: row?.['type'] ?? '', category: row?.['category'] ?? '' }
  })
}

/** The value in a record of JSON, with all its digits. Times as JSON has them, so that their texts can be compared. */
export function jsonSql(source: SourceColumn): string {
  const column = ident(source.name)
  if (source.type === 'numeric') return `${column}::text`
  if (source.type === 'bytea') return valueSql(source)
  if (source.category === 'D' && source.type !== 'time' && source.type !== 'timetz')
    return `CASE WHEN ${column} < '0001-01-01'::${source.type} THEN to_json(${valueSql(source)}) ELSE to_json(${column}) END`
  return column
}

/** The value as the engine reads it exactly: arrays and composites as JSON, bytes and years before the common era in its own way. */
export function valueSql({ name, type, category }: SourceColumn): string {
  const column = ident(name)
  if (category === 'A') return `array_to_json(${column})`
  if (category === 'C') return `row_to_json(${column})`
  if (type === 'bytea') return `regexp_replace(encode(${column}, 'hex'), '(..)', '\\x\\1', 'g')`
  if (type === 'date' || type === 'timestamp' || type === 'timestamptz')
    return `CASE WHEN ${column} < '0001-01-01'::${type} THEN regexp_replace(${column}::text, '^([0-9-]+)(.*) BC$', '\\1 (BC)\\2') ELSE ${column}::text END`
  return column
}

function missing(message: string, hint: string): AdflowError {
  return new AdflowError('SOURCE_MISSING', message, { hint })
}
