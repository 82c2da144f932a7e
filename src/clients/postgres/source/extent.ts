/** What a pass has to look at: the parts of a table, by place, and the bound that its cursor column sets. */
import { AdflowError } from '../../../core/errors.ts'
import { ident, literal } from '../../../engine/sql-text.ts'
import { requireColumn, type SourceTable } from './columns.ts'
import type { ReadSession } from './session.ts'

/** A table that holds rows itself: one without partitions, or a partition. */
export interface Leaf {
  readonly oid: string
  /** SQL of its name. */
  readonly name: string
  /** Its file: another one after a rewrite. */
  readonly file: string
  readonly bytes: number
}

export interface CursorOption {
  readonly columns: readonly string[]
  /** Milliseconds, or a number of the column's own; undefined: the default of its type. */
  readonly lag: { readonly ms: number } | number | undefined
}

/** Rows of a leaf up to `end`, and not before the part in front of it. */
export interface Part {
  readonly from: string
  readonly where: string
  /** The place after it. */
  readonly end: string
}

const ROWS_OF_PART = 20_000
const PARTS_OF_SEGMENT = 4
const MOST_BLOCKS = 2048

export async function leavesOf(
  session: ReadSession,
  { oid, schema, table, kind }: SourceTable,
): Promise<readonly Leaf[]> {
  const rows = await session.query(
    `WITH RECURSIVE tree AS (SELECT $1::oid AS oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON t.oid = i.inhparent)
     SELECT c.oid, CASE WHEN c.relisshared THEN 'shared' ELSE c.relkind::text END AS kind, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, pg_relation_filenode(c.oid) AS file, pg_relation_size(c.oid) AS bytes
     FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind <> 'p' ORDER BY c.oid::bigint`,
    [oid],
  )
  const other = rows.find((row) => row['kind'] !== 'r')
  if (other?.['kind'] === 'shared') throw sharedTable(`${schema}.${table}`)
  if (other !== undefined || (rows.length === 0 && kind !== 'p'))
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `${other?.['name'] ?? `${schema}.${table}`} is no table: its rows know no transaction`,
      {
        hint: 'name a table, or read a view or a foreign table by `query`',
      },
    )
  return rows.map(({ oid: leaf, name, file, bytes }) => ({
    oid: leaf ?? '',
    name: name ?? '',
    file: file ?? '',
    bytes: Number(bytes),
  }))
}

/** A catalog of the whole cluster, such as pg_database. */
export function sharedTable(table: string): AdflowError {
  return new AdflowError(
    'SOURCE_UNSUPPORTED',
    `${table} belongs to all databases of the cluster, and only transactions of this one are waited for`,
    { hint: 'read it by `query`' },
  )
}

interface Scan {
  readonly condition: string
  /** Only what an index finds above a bound is looked at. */
  readonly above: boolean
  readonly segmentBytes: number
  readonly blockBytes: number
}

/** Small beside a segment: a page is a part. */
export async function* partsOf(session: ReadSession, leaf: Leaf, tid: string, scan: Scan): AsyncGenerator<Part> {
  const part = (from: string, to: string | undefined, end: string): Part => ({
    from: leaf.name,
    where: [`ctid >= '${from}'`, ...(to === undefined ? [] : [`ctid < '${to}'`]), scan.condition].join(' AND '),
    end,
  })
  const behind = `(${Math.ceil(leaf.bytes / scan.blockBytes)},0)`
  if (!scan.above) {
    const step = Math.max(1, Math.min(MOST_BLOCKS, Math.floor(scan.segmentBytes / PARTS_OF_SEGMENT / scan.blockBytes)))
    const blocks = Math.ceil(leaf.bytes / scan.blockBytes)
    let from = Number(/\d+/.exec(tid)?.[0])
    for (; from + step < blocks; from += step) yield part(`(${from},0)`, `(${from + step},0)`, `(${from + step},0)`)
    yield part(`(${from},0)`, undefined, behind)
    return
  }
  const edges = await session.query(
    `SELECT ctid FROM (SELECT ctid, row_number() OVER (ORDER BY ctid) AS n FROM ONLY ${leaf.name} WHERE ctid >= '${tid}' AND ${scan.condition}) AS found WHERE n % ${ROWS_OF_PART} = 0 ORDER BY ctid`,
  )
  let from = tid
  for (const { ctid } of edges) {
    if (ctid === null || ctid === undefined || ctid === from) continue
    yield part(from, ctid, ctid)
    from = ctid
  }
  yield part(from, undefined, behind)
}

const HOUR_MS = 3_600_000
const NUMBERS = 100_000

/** `above`: SQL of the rows that can be of interest; undefined: all. `high`: the cursor's highest value when the pass ends. */
export async function boundsOf(
  session: ReadSession,
  table: SourceTable,
  { columns, lag }: CursorOption,
  { window, high, all }: { readonly window: string; readonly high: string | undefined; readonly all: boolean },
): Promise<{ readonly above?: string; readonly high?: string }> {
  const where = `${table.schema}.${table.table}`
  const [first] = columns.map((name) => requireColumn(table.columns, name, where))
  if (first === undefined) return {}
  const { type, category } = first
  const column = ident(first.name)
  if (category !== 'D' && category !== 'N')
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `the cursor ${first.name} of ${where} is a ${type}: how late is late cannot be said of it`,
      {
        hint: 'name a column of numbers or times, or leave `cursor` out: then all of the table is looked through for changes',
      },
    )
  if (lag !== undefined && (category === 'D') === (typeof lag === 'number'))
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `the cursor ${first.name} of ${where} is a ${type}, and \`lag\` is ${category === 'D' ? 'a number' : 'a time'}`,
      {
        hint: category === 'D' ? 'state it as a time, such as `1h`' : 'state it as a number, such as `100000`',
      },
    )
  const before =
    category === 'D' ? `interval '${typeof lag === 'object' ? lag.ms : HOUR_MS} milliseconds'` : String(lag ?? NUMBERS)
  const bound = all || high === undefined ? undefined : `${literal(high)}::${type} - ${before}`
  const above = bound === undefined ? undefined : `(${column} >= ${bound} OR ${column} IS NULL)`
  // A clock that is wrong once would hide all that comes after.
  const highest = category === 'D' ? `least(max(${column}), now()::${type})` : `max(${column})`
  const from = `${ident(table.schema)}.${ident(table.table)}`
  const least = high === undefined ? highest : `greatest(${highest}, ${literal(high)}::${type})`
  const found = await session.one(
    `SELECT ${least}::text AS high FROM ${from} WHERE ${above === undefined ? window : `${window} AND ${above}`}`,
  )
  const next = found['high'] ?? high
  return { ...(above === undefined ? {} : { above }), ...(next === undefined ? {} : { high: next }) }
}
