/** Types of the engine as columns of PostgreSQL, and how their values are written for COPY so that each arrives exactly. */
import { ident } from '../../engine/sql-text.ts'

export interface PostgresColumn {
  readonly name: string
  /** As format_type() of PostgreSQL names it. */
  readonly type: string
  /** SQL of the engine: the value as COPY takes it. */
  readonly sql: string
}

const PLAIN: Readonly<Record<string, string>> = {
  BOOLEAN: 'boolean',
  TINYINT: 'smallint',
  UTINYINT: 'smallint',
  SMALLINT: 'smallint',
  USMALLINT: 'integer',
  INTEGER: 'integer',
  UINTEGER: 'bigint',
  BIGINT: 'bigint',
  UBIGINT: 'numeric(20,0)',
  HUGEINT: 'numeric(39,0)',
  UHUGEINT: 'numeric(39,0)',
  FLOAT: 'real',
  DOUBLE: 'double precision',
  VARCHAR: 'text',
  UUID: 'uuid',
  INTERVAL: 'interval',
  TIME: 'time without time zone',
}

/** The engine marks years before the common era otherwise. */
const DATED: Readonly<Record<string, string>> = {
  DATE: 'date',
  TIMESTAMP: 'timestamp without time zone',
  TIMESTAMP_S: 'timestamp without time zone',
  TIMESTAMP_MS: 'timestamp without time zone',
  'TIMESTAMP WITH TIME ZONE': 'timestamp with time zone',
}

/** Nested values and JSON become jsonb. undefined: PostgreSQL cannot hold the type exactly. */
export function postgresType(type: string): string | undefined {
  const [, precision, scale] = /^DECIMAL\((\d+),\s*(\d+)\)$/.exec(type) ?? []
  if (precision !== undefined) return `numeric(${precision},${scale})`
  if (PLAIN[type] !== undefined || DATED[type] !== undefined) return PLAIN[type] ?? DATED[type]
  if (type === 'BLOB') return 'bytea'
  if (type.startsWith('ENUM')) return 'text'
  return type === 'JSON' || isNested(type) ? 'jsonb' : undefined
}

export function postgresColumns(
  columns: readonly { readonly name: string; readonly type: string }[],
): PostgresColumn[] {
  return columns.map(({ name, type }) => ({
    name,
    type: postgresType(type) ?? 'text',
    sql: written(type, ident(name)),
  }))
}

function written(type: string, column: string): string {
  if (DATED[type] !== undefined)
    return `CASE WHEN ${column} < '0001-01-01'::${type} THEN replace(${column}::VARCHAR, ' (BC)', ' BC') ELSE ${column}::VARCHAR END`
  if (type === 'BLOB') return `'\\x' || hex(${column})`
  // Numbers of any length pass the engine's JSON writer and jsonb as they are.
  return isNested(type) ? `to_json(${column})::VARCHAR` : column
}

function isNested(type: string): boolean {
  return /^(?:STRUCT|MAP)\(|\]$/.test(type)
}
