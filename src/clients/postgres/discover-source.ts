/** Tables that a user of PostgreSQL may read, by the catalog. */
import type { DiscoverEnv, Offer } from '../../core/discovery.ts'
import { Postgres, placeOf } from './connect.ts'
import { explainSource } from './errors.ts'
import type { ConnectionOptions } from './options.ts'

/** Of a table with partitions the partitions are left out: whoever reads it reads them. */
const TABLES = `SELECT format('%I.%I', n.nspname, c.relname) AS name, c.reltuples::bigint AS records, pg_total_relation_size(c.oid) AS bytes,
  c.relkind = 'p' AS partitioned, (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY n.nspname, c.relname`

interface Row {
  readonly name: string
  /** Of the planner; -1 where it has never looked. */
  readonly records: string
  readonly bytes: string
  readonly partitioned: boolean
  readonly columns: string
}

export async function* discoverTables(
  options: ConnectionOptions,
  { baseDir, signal }: DiscoverEnv,
): AsyncGenerator<Offer> {
  const postgres = new Postgres(options, baseDir, explainSource)
  const { host, port, database } = placeOf(options)
  try {
    const { rows } = await postgres.with(
      `list the tables of ${host}:${port}/${database}`,
      (client) => client.query<Row>(TABLES),
      signal,
    )
    for (const { name, records, bytes, partitioned, columns } of rows)
      yield {
        kind: 'table',
        name,
        records: Number(records) < 0 ? undefined : Number(records),
        bytes: partitioned ? undefined : Number(bytes),
        about: `${columns} columns${partitioned ? ', with partitions' : ''}`,
        options: { table: name },
      }
  } finally {
    await postgres.close()
  }
}
