/** Partitions of a batch that its table never got, put there behind the back of its views: these have had the rows. */
import type { LoadBatch } from '../../core/contracts.ts'
import { labelOf, tableSql } from './ddl.ts'
import { type Insertion, sendInto } from './insert.ts'
import { literal } from './sql-text.ts'

/** `mine`: condition over the table, of the rows of the batch. Each partition comes whole; killed in between, it is begun anew. */
export async function attachMissing(insertion: Insertion, batch: LoadBatch, mine: string): Promise<void> {
  const { clickhouse, fed } = insertion
  const { database, table } = fed[0]
  const staged = { database, table: `_adflow_staged_${table}` }
  const [from, to] = [tableSql(staged), tableSql(fed[0])]
  const drop = () => clickhouse.command(`drop ${labelOf(staged)}`, `DROP TABLE IF EXISTS ${from} SYNC`)
  await drop()
  await clickhouse.command(`make ${labelOf(staged)}`, `CREATE TABLE ${from} AS ${to}`)
  await sendInto(insertion, batch, staged)
  const missing = await clickhouse.rows(
    `look for what is missing in ${labelOf(fed[0])}`,
    `SELECT DISTINCT _partition_id AS id FROM ${from} WHERE _partition_id NOT IN (SELECT _partition_id FROM ${to} WHERE ${mine})`,
  )
  for (const { id } of missing)
    await clickhouse.command(
      `bring a partition of a batch to ${labelOf(fed[0])}`,
      `ALTER TABLE ${to} ATTACH PARTITION ID ${literal(String(id))} FROM ${from}`,
    )
  await drop()
}
