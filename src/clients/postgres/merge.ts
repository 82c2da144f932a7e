/** Merge by key: the batch goes to a table of its transaction, and from there into the target. */
import type { PoolClient } from 'pg'
import { ident } from '../../engine/sql-text.ts'
import { copyIn, type EncodedBatch } from './copy.ts'
import { type TableName, tableSql } from './table.ts'
import type { PostgresColumn } from './types.ts'

export const ORDINAL = '__adflow_ordinal'

const STAGED = 'pg_temp.__adflow_batch'

/** Rows whose key the table has are updated in the columns of the batch, the others inserted. Of rows of one batch with the
 *  same key the last one wins. NULL is a key value like any other. One batch at a time per table. */
export async function mergeIn(
  client: PoolClient,
  target: TableName,
  batch: EncodedBatch,
  { columns, key, signal }: { columns: readonly PostgresColumn[]; key: readonly string[]; signal: AbortSignal },
): Promise<void> {
  const table = tableSql(target)
  const definitions = [...columns.map(({ name, type }) => `${ident(name)} ${type}`), `${ident(ORDINAL)} bigint`]
  await client.query(`CREATE TEMP TABLE __adflow_batch (${definitions.join(', ')}) ON COMMIT DROP`)
  await copyIn(client, STAGED, batch, signal)
  const keys = key.map(ident)
  await client.query(
    `DELETE FROM ${STAGED} a USING (SELECT ${ident(ORDINAL)} AS o, row_number() OVER (PARTITION BY ${keys.join(', ')} ORDER BY ${ident(ORDINAL)} DESC) AS n FROM ${STAGED}) b WHERE a.${ident(ORDINAL)} = b.o AND b.n > 1`,
  )
  await client.query(`ANALYZE ${STAGED}`)
  const isNull = keys.map((column) => `${column} IS NULL`).join(' OR ')
  const { rows } = await client.query<{ nulls: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM ${STAGED} WHERE ${isNull}) AS nulls`,
  )
  // Plain equality can use the index of the key; it is right where no key is NULL.
  const equal = rows[0]?.nulls === true ? 'IS NOT DISTINCT FROM' : '='
  const on = keys.map((column) => `target.${column} ${equal} source.${column}`).join(' AND ')
  const names = columns.map(({ name }) => ident(name))
  const rest = names.filter((name) => !keys.includes(name))
  if (rest.length > 0)
    await client.query(
      `UPDATE ${table} AS target SET ${rest.map((name) => `${name} = source.${name}`).join(', ')} FROM ${STAGED} AS source WHERE ${on}`,
    )
  await client.query(
    `INSERT INTO ${table} (${names.join(', ')}) SELECT ${names.join(', ')} FROM ${STAGED} AS source WHERE NOT EXISTS (SELECT 1 FROM ${table} AS target WHERE ${on})`,
  )
}
