/** Types of the contract, as trees the reader can build SQL from. The engine itself parses the type text. */
import { DuckDBDecimalType, type DuckDBType, DuckDBTypeId } from '@duckdb/node-api'
import { isExact, surelyExact } from './decimal-scale.ts'
import type { Session } from './session.ts'
import { ident } from './sql-text.ts'

export type TypeKind =
  | 'text'
  | 'json'
  | 'integer'
  | 'decimal'
  | 'timestamp'
  | 'timestamptz'
  | 'other'
  | 'struct'
  | 'list'
  | 'map'

export interface TypeTree {
  readonly kind: TypeKind
  /** The engine's own name of the type. */
  readonly sql: string
  readonly fields?: readonly { readonly name: string; readonly type: TypeTree }[]
  readonly item?: TypeTree
  /** Digits behind the point of a decimal. */
  readonly scale?: number
}

const INTEGERS = new Set([
  DuckDBTypeId.TINYINT,
  DuckDBTypeId.SMALLINT,
  DuckDBTypeId.INTEGER,
  DuckDBTypeId.BIGINT,
  DuckDBTypeId.HUGEINT,
  DuckDBTypeId.UTINYINT,
  DuckDBTypeId.USMALLINT,
  DuckDBTypeId.UINTEGER,
  DuckDBTypeId.UBIGINT,
  DuckDBTypeId.UHUGEINT,
])

const KINDS = new Map<DuckDBTypeId, TypeKind>([
  [DuckDBTypeId.VARCHAR, 'text'],
  [DuckDBTypeId.TIMESTAMP, 'timestamp'],
  [DuckDBTypeId.TIMESTAMP_S, 'timestamp'],
  [DuckDBTypeId.TIMESTAMP_MS, 'timestamp'],
  [DuckDBTypeId.TIMESTAMP_NS, 'timestamp'],
  [DuckDBTypeId.TIMESTAMP_TZ, 'timestamptz'],
])

/** @throws AdflowError ENGINE_FAILED when the engine does not know the type. */
export async function resolveType(session: Session, text: string): Promise<TypeTree> {
  const tree = known.get(text) ?? (await askType(session, text))
  known.set(text, tree)
  return tree
}

/** Names that nearly all columns have, and what the engine says of them. */
export const PLAIN_TYPES: Readonly<Record<string, TypeTree>> = {
  bigint: { kind: 'integer', sql: 'BIGINT' },
  integer: { kind: 'integer', sql: 'INTEGER' },
  varchar: { kind: 'text', sql: 'VARCHAR' },
  timestamp: { kind: 'timestamp', sql: 'TIMESTAMP' },
  timestamptz: { kind: 'timestamptz', sql: 'TIMESTAMP WITH TIME ZONE' },
  boolean: { kind: 'other', sql: 'BOOLEAN' },
  double: { kind: 'other', sql: 'DOUBLE' },
  date: { kind: 'other', sql: 'DATE' },
}

/** Types mean the same in every session: neither a job nor a source can make one. */
const known = new Map<string, TypeTree>(Object.entries(PLAIN_TYPES))

export async function askType(session: Session, text: string): Promise<TypeTree> {
  const tree = treeOf(await session.typeOf(`NULL::${text}`))
  // The name by which the engine describes tables: it quotes fewer names than the type prints.
  const [described] = await session.describe(`SELECT NULL::${text} AS v`)
  return { ...tree, sql: described?.type ?? tree.sql }
}

function treeOf(type: DuckDBType): TypeTree {
  const sql = type.toString()
  if (type.typeId === DuckDBTypeId.STRUCT)
    return {
      kind: 'struct',
      sql,
      fields: type.entryNames.map((name, index) => ({ name, type: treeOf(type.entryTypes[index] as DuckDBType) })),
    }
  if (type.typeId === DuckDBTypeId.LIST) return { kind: 'list', sql, item: treeOf(type.valueType) }
  if (type.typeId === DuckDBTypeId.MAP) return { kind: 'map', sql }
  if (type.alias === 'JSON') return { kind: 'json', sql: 'JSON' }
  if (INTEGERS.has(type.typeId)) return { kind: 'integer', sql }
  if (type instanceof DuckDBDecimalType) return { kind: 'decimal', sql, scale: type.scale }
  return { kind: KINDS.get(type.typeId) ?? 'other', sql }
}

/** The type under which raw values are read: text at every leaf, so that one strict cast decides for every format. */
export function rawType(type: TypeTree): string {
  if (type.kind === 'struct')
    return `STRUCT(${(type.fields ?? []).map((field) => `${ident(field.name)} ${rawType(field.type)}`).join(', ')})`
  if (type.kind === 'list') return `${rawType(type.item as TypeTree)}[]`
  if (type.kind === 'map') return 'MAP(VARCHAR, VARCHAR)'
  return type.kind === 'json' ? 'JSON' : 'VARCHAR'
}

export function isNested(type: TypeTree): boolean {
  return type.kind === 'struct' || type.kind === 'list' || type.kind === 'map'
}

function allText(type: TypeTree): boolean {
  if (type.kind === 'struct') return (type.fields ?? []).every((field) => allText(field.type))
  return type.kind === 'list' ? allText(type.item as TypeTree) : type.kind === 'text' || type.kind === 'json'
}

/** SQL of the typed value; NULL where the raw text does not fit the type exactly. `raw` is SQL of the raw value. */
export function typedSql(type: TypeTree, raw: string, format?: string): string {
  if (allText(type)) return raw
  switch (type.kind) {
    case 'struct': {
      const fields = (type.fields ?? []).map(
        ({ name, type: inner }) => `${ident(name)} := ${typedSql(inner, `(${raw}).${ident(name)}`)}`,
      )
      return `CASE WHEN ${raw} IS NOT NULL THEN struct_pack(${fields.join(', ')}) END`
    }
    case 'list':
      return `list_transform(${raw}, lambda x: ${typedSql(type.item as TypeTree, 'x')})`
    case 'integer':
      // TRY_CAST rounds '1.5' to 2. A fraction of zeros is an integer; past 15 digits a JSON real has lost its own.
      return `CASE WHEN contains(${raw}, '.') OR contains(${raw}, 'e') OR contains(${raw}, 'E') THEN CASE WHEN regexp_full_match(${raw}, '[+-]?[0-9]{1,15}[.]0*') THEN TRY_CAST(${raw} AS ${type.sql}) END ELSE TRY_CAST(${raw} AS ${type.sql}) END`
    case 'decimal': {
      const { scale = 0, sql } = type
      const cast = `TRY_CAST(${raw} AS ${sql})`
      return `CASE WHEN ${surelyExact(raw, scale)} THEN ${cast} WHEN ${isExact(raw, scale)} THEN ${cast} END`
    }
    case 'timestamp':
      if (format !== undefined) return `TRY_CAST(${epochSql(raw, format)} AS ${type.sql})`
      // A cast to TIMESTAMP drops '+08:00' in silence: anything but Z goes through TIMESTAMPTZ.
      return `CASE WHEN suffix(${raw}, 'Z') THEN TRY_CAST(${raw} AS ${type.sql}) ELSE timezone('UTC', TRY_CAST(${raw} AS TIMESTAMPTZ))::${type.sql} END`
    case 'timestamptz':
      return format === undefined ? `TRY_CAST(${raw} AS ${type.sql})` : `timezone('UTC', ${epochSql(raw, format)})`
    default:
      return format !== undefined && type.sql === 'DATE'
        ? `TRY_CAST(${epochSql(raw, format)} AS DATE)`
        : `TRY_CAST(${raw} AS ${type.sql})`
  }
}

/**
 * SQL of the typed value that raises where the raw text does not fit: one cast and no check afterwards. undefined for types
 * whose parts must be looked at one by one, and for integers, of which all are asked together (see wholeSql).
 */
export function strictSql(type: TypeTree, raw: string, format?: string): string | undefined {
  if (allText(type)) return raw
  if (format !== undefined) return undefined
  const refuse = `error('does not fit')::${type.sql}`
  switch (type.kind) {
    case 'timestamp':
      return `CASE WHEN suffix(${raw}, 'Z') THEN CAST(${raw} AS ${type.sql}) ELSE timezone('UTC', CAST(${raw} AS TIMESTAMPTZ))::${type.sql} END`
    case 'decimal': {
      const { scale = 0, sql } = type
      const cast = `CAST(${raw} AS ${sql})`
      return `CASE WHEN ${surelyExact(raw, scale)} THEN ${cast} WHEN ${raw} IS NULL OR ${isExact(raw, scale)} THEN ${cast} ELSE ${refuse} END`
    }
    case 'timestamptz':
    case 'other':
      return `CAST(${raw} AS ${type.sql})`
    default:
      return undefined
  }
}

/** SQL that is true when the text has no sign of a fraction or an exponent, which the engine's cast to an integer would round or work out. */
export function wholeSql(text: string): string {
  return `NOT (contains(${text}, '.') OR contains(${text}, 'e') OR contains(${text}, 'E'))`
}

const EPOCHS: Record<string, number> = { epoch_s: 1_000_000, epoch_ms: 1_000, epoch_us: 1 }

/** Timestamps written as numbers, or by a strptime pattern. */
function epochSql(raw: string, format: string): string {
  const factor = EPOCHS[format]
  if (factor === undefined) return `try_strptime(${raw}, '${format.replaceAll("'", "''")}')`
  // Decimal keeps fractions of seconds exact; TRY gives NULL when the instant is out of range.
  return `TRY(make_timestamp((TRY_CAST(${raw} AS DECIMAL(28, 6)) * ${factor})::BIGINT))`
}

/** SQL that is true when the raw value is there but does not fit; undefined where every text fits. */
export function unfitSql(type: TypeTree, raw: string, typed: string): string | undefined {
  if (allText(type)) return undefined
  if (type.kind === 'struct') {
    const parts = (type.fields ?? []).flatMap(
      ({ name, type: inner }) => unfitSql(inner, `(${raw}).${ident(name)}`, `(${typed}).${ident(name)}`) ?? [],
    )
    return parts.length === 0 ? undefined : `(${parts.join(' OR ')})`
  }
  if (type.kind === 'list') {
    const item = unfitSql(type.item as TypeTree, 'x', typedSql(type.item as TypeTree, 'x'))
    return item === undefined ? undefined : `coalesce(len(list_filter(${raw}, lambda x: ${item})) > 0, false)`
  }
  if (type.kind === 'map')
    return `${raw} IS NOT NULL AND coalesce(${typed} IS NULL OR len(list_filter(map_values(${raw}), lambda x: x IS NOT NULL)) <> len(list_filter(map_values(${typed}), lambda x: x IS NOT NULL)), false)`
  return `(${raw} IS NOT NULL AND ${typed} IS NULL)`
}
