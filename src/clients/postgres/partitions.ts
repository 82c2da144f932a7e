/** Declarative partitions: those that a batch needs are made before it is written. */
import type { PoolClient } from 'pg'
import { z } from 'zod'
import type { EngineConnection } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { ident, literal } from '../../engine/sql-text.ts'

export const partitionOption = z
  .discriminatedUnion('by', [
    z.strictObject({
      by: z.literal('range').describe('One partition for each day, month or year of a date or timestamp.'),
      column: z.string().min(1).describe('The column.'),
      every: z.enum(['day', 'month', 'year']).describe('What one partition holds.'),
    }),
    z.strictObject({
      by: z.literal('list').describe('One partition for each value.'),
      column: z.string().min(1).describe('The column.'),
    }),
    z.strictObject({
      by: z.literal('hash').describe('A fixed number of partitions, by a hash of the value.'),
      column: z.string().min(1).describe('The column.'),
      partitions: z.int().min(2).max(1024).describe('How many.'),
    }),
  ])
  .describe('How the table is partitioned when it is created.')

export type PartitionOption = z.infer<typeof partitionOption>

/** More in one batch are an error: most likely the column is too fine. */
const MOST_PARTITIONS = 1000

export function partitionBy(option: PartitionOption | undefined): string {
  return option === undefined ? '' : ` PARTITION BY ${option.by} (${ident(option.column)})`
}

/** Rows without a value, and what nobody foresaw, go to the default partition. */
export async function makePartitions(
  client: PoolClient,
  engine: EngineConnection,
  { schema, table }: { readonly schema: string; readonly table: string },
  option: PartitionOption,
  relation: string,
): Promise<void> {
  const wanted = await partitionsOf(engine, option, relation)
  if (wanted.length > MOST_PARTITIONS)
    throw new AdflowError('STORE_MISMATCH', `a batch needs ${wanted.length} partitions of ${schema}.${table}`, {
      hint: `partition by something coarser than ${option.column}; nothing was written`,
    })
  for (const { name, bounds } of [...wanted, ...(option.by === 'hash' ? [] : [{ name: 'rest', bounds: 'DEFAULT' }])])
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${ident(schema)}.${ident(`${table}_${name}`.slice(0, 63))} PARTITION OF ${ident(schema)}.${ident(table)} ${bounds === 'DEFAULT' ? bounds : `FOR VALUES ${bounds}`}`,
    )
}

async function partitionsOf(engine: EngineConnection, option: PartitionOption, relation: string) {
  const column = ident(option.column)
  if (option.by === 'hash')
    return Array.from({ length: option.partitions }, (_, remainder) => ({
      name: `p${remainder}`,
      bounds: `WITH (MODULUS ${option.partitions}, REMAINDER ${remainder})`,
    }))
  if (option.by === 'range') {
    const start = `date_trunc('${option.every}', ${column}::TIMESTAMP)`
    const rows = await engine.rows(
      `SELECT DISTINCT ${start}::DATE::VARCHAR AS a, (${start} + INTERVAL 1 ${option.every})::DATE::VARCHAR AS b FROM ${relation} AS batch WHERE ${column} IS NOT NULL AND isfinite(${column}) ORDER BY 1`,
    )
    return rows.map(({ a, b }) => ({
      name: String(a).replaceAll('-', '').slice(0, { day: 8, month: 6, year: 4 }[option.every]),
      bounds: `FROM (${literal(`${a}`)}) TO (${literal(`${b}`)})`,
    }))
  }
  const rows = await engine.rows(
    `SELECT DISTINCT ${column}::VARCHAR AS v, left(md5(${column}::VARCHAR), 12) AS h FROM ${relation} AS batch WHERE ${column} IS NOT NULL ORDER BY 1`,
  )
  return rows.map(({ v, h }) => ({ name: String(h), bounds: `IN (${literal(String(v))})` }))
}
