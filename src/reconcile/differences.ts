/** The suspect rows of both sides, value by value: what is missing, extra, different, doubled. One table, one line per row of it. */
import type { CompareScope } from '../core/comparison.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { type Sides, SUSPECTS, table } from './bisect.ts'

/** Table `kind, bucket, key, columns, source, store, source_batch, store_id, store_content, store_batch`. */
export const DIFFERENCES = 'reconcile_differences'
const LEFT = 'reconcile_left_rows'
const RIGHT = 'reconcile_right_rows'

export const KINDS = ['missing', 'extra', 'different', 'doubled'] as const
export type Kind = (typeof KINDS)[number]
export type KindCounts = Readonly<Record<Kind, number>>

export const NO_DIFFERENCES: KindCounts = { missing: 0, extra: 0, different: 0, doubled: 0 }

export async function findDifferences(session: Session, sides: Sides): Promise<KindCounts> {
  const { left, right, leftScope, rightScope } = sides
  await table(session, LEFT, await left.rows(leftScope, SUSPECTS))
  await table(session, RIGHT, await right.rows(rightScope, SUSPECTS))
  await table(session, DIFFERENCES, differencesSql(leftScope))
  const rows = await session.rows(`SELECT kind, count(*)::BIGINT AS n FROM ${DIFFERENCES} GROUP BY kind`)
  return { ...NO_DIFFERENCES, ...Object.fromEntries(rows.map((row) => [String(row['kind']), Number(row['n'])])) }
}

/** No differences: the table is there, and empty. */
export async function noDifferences(session: Session, { columns, key }: CompareScope): Promise<void> {
  const types = new Map(columns.map(({ name, type }) => [name, type]))
  const struct = (names: readonly string[]) =>
    `NULL::STRUCT(${names.map((name) => `${ident(name)} ${types.get(name)}`).join(', ')})`
  const all = struct(columns.map(({ name }) => name))
  await table(
    session,
    DIFFERENCES,
    `SELECT '' AS kind, 0::BIGINT AS bucket, ${struct(key)} AS "key", ['']::VARCHAR[] AS columns, ${all} AS source, ${all} AS store, 0::BIGINT AS source_batch, 0::UBIGINT AS store_id, 0::UBIGINT AS store_content, 0::BIGINT AS store_batch WHERE false`,
  )
}

/**
 * Equal rows are matched copy by copy. What is left on the right is a copy too many where the left has the same row, else it is
 * extra; what is left on both sides under one key is a row that differs. Bits count: 0.0 is not -0.0.
 */
function differencesSql({ columns, key }: CompareScope): string {
  const names = columns.map(({ name }) => ident(name))
  const same = (those: readonly string[]) =>
    those.map((name) => `l.${name} IS NOT DISTINCT FROM r.${name}`).join(' AND ')
  const copies = (side: string, order: string) =>
    `(SELECT *, row_number() OVER (PARTITION BY __content, ${names.join(', ')}${order}) AS __copy FROM ${side})`
  // Of several copies the one of the row's own batch is the right one.
  const own = ` ORDER BY (__batch, __id) IN (SELECT (__batch, __id) FROM ${LEFT}) DESC, __batch`
  const l = copies(LEFT, '')
  const r = copies(RIGHT, own)
  const match = `l.__content = r.__content AND l.__copy = r.__copy AND ${same(names)}`
  const keys = key.map(ident)
  const ranked = (sql: string) => `(SELECT *, row_number() OVER (PARTITION BY ${keys.join(', ')}) AS __nth FROM ${sql})`
  const lone = ranked(`(SELECT l.* FROM ${l} l WHERE NOT EXISTS (SELECT 1 FROM ${r} r WHERE ${match}))`)
  const loneRight = `(SELECT r.*, EXISTS (SELECT 1 FROM ${LEFT} l WHERE l.__content = r.__content AND ${same(names)}) AS __doubled FROM ${r} r WHERE NOT EXISTS (SELECT 1 FROM ${l} l WHERE ${match}))`
  const row = (side: string, those: readonly string[] = names) =>
    `{${those.map((name) => `${literal(unquoted(name))}: ${side}.${name}`).join(', ')}}`
  const changed = names.map(
    (name) =>
      `CASE WHEN l.${name} IS DISTINCT FROM r.${name} OR l.${name}::VARCHAR IS DISTINCT FROM r.${name}::VARCHAR THEN ${literal(unquoted(name))} END`,
  )
  const stored = 'r.__id AS store_id, r.__content AS store_content, r.__batch AS store_batch'
  return `SELECT CASE WHEN l.__id IS NULL THEN 'extra' WHEN r.__id IS NULL THEN 'missing' ELSE 'different' END AS kind,
      coalesce(l.__bucket, r.__bucket) AS bucket,
      CASE WHEN l.__id IS NULL THEN ${row('r', keys)} ELSE ${row('l', keys)} END AS "key",
      CASE WHEN l.__id IS NOT NULL AND r.__id IS NOT NULL THEN list_filter([${changed.join(', ')}], lambda c: c IS NOT NULL) ELSE [] END AS columns,
      CASE WHEN l.__id IS NOT NULL THEN ${row('l')} END AS source,
      CASE WHEN r.__id IS NOT NULL THEN ${row('r')} END AS store,
      l.__batch AS source_batch, ${stored}
    FROM ${lone} l FULL JOIN ${ranked(`(FROM ${loneRight} WHERE NOT __doubled)`)} r ON l.__nth = r.__nth AND ${same(keys)}
    UNION ALL
    SELECT 'doubled', r.__bucket, ${row('r', keys)}, [], ${row('r')}, ${row('r')}, NULL, ${stored} FROM ${loneRight} r WHERE __doubled`
}

function unquoted(name: string): string {
  return name.slice(1, -1).replaceAll('""', '"')
}
