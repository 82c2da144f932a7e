/** Merge by key: one MERGE INTO per batch, on the engine's threads. */
import type { EngineConnection } from '../../core/contracts.ts'
import type { TypedColumn } from '../../engine/exact.ts'
import { ident } from '../../engine/sql-text.ts'
import { type TableName, tableSql } from './table.ts'

const ORDINAL = '__adflow_ordinal'

/** Rows whose key the table has are updated in the columns of the batch, the others inserted. Of rows of one batch with
 *  the same key the last one wins, in the order of the relation. NULL is a key value like any other. Returns the rows
 *  applied, those that a later row of the batch replaced included. */
export async function mergeBatch(
  engine: EngineConnection,
  target: TableName,
  batch: {
    readonly relation: string
    readonly columns: readonly TypedColumn[]
    readonly key: readonly string[]
    /** Condition on `target` under which a row is updated; the others stay. Default: all. */
    readonly when?: string
  },
): Promise<number> {
  const { relation, columns, key, when } = batch
  const keys = key.map(ident).join(', ')
  const isNull = key.map((column) => `${ident(column)} IS NULL`).join(' OR ')
  const [found] = await engine.rows(
    `SELECT coalesce(sum(n), 0)::BIGINT AS "rows", count(*) AS "keys", coalesce(bool_or("null"), false) AS "nulls" FROM (SELECT count(*) AS n, bool_or(${isNull}) AS "null" FROM ${relation} AS batch GROUP BY ${keys})`,
  )
  const rows = Number(found?.['rows'] ?? 0)
  if (rows === 0) return 0
  const source = rows === Number(found?.['keys']) ? `SELECT * FROM ${relation} AS batch` : lastOfEachKey(relation, keys)
  // Plain equality lets the engine skip row groups by their minimum and maximum; it is right where no key is NULL.
  const equal = found?.['nulls'] === true ? 'IS NOT DISTINCT FROM' : '='
  const on = key.map((column) => `target.${ident(column)} ${equal} source.${ident(column)}`).join(' AND ')
  const isKey = new Set(key.map((column) => column.toLowerCase()))
  const rest = columns.filter(({ name }) => !isKey.has(name.toLowerCase())).map(({ name }) => ident(name))
  const matched =
    rest.length === 0 ? 'DO NOTHING' : `UPDATE SET ${rest.map((name) => `${name} = source.${name}`).join(', ')}`
  await engine.run(
    `MERGE INTO ${tableSql(target)} AS target USING (${source}) AS source ON ${on} WHEN MATCHED${when === undefined ? '' : ` AND ${when}`} THEN ${matched} WHEN NOT MATCHED THEN INSERT BY NAME`,
  )
  return rows
}

/** row_number() without ORDER BY is a streaming operator: it numbers rows in the order of the relation. */
export function lastOfEachKey(relation: string, keys: string): string {
  const numbered = `(SELECT *, row_number() OVER () AS ${ORDINAL} FROM ${relation} AS batch)`
  return `SELECT * EXCLUDE (${ORDINAL}) FROM ${numbered} WHERE ${ORDINAL} IN (SELECT max(${ORDINAL}) FROM ${numbered} GROUP BY ${keys})`
}
