/** Tables of a database of ClickHouse that its user sees. */
import type { DiscoverEnv, Offer } from '../../core/discovery.ts'
import { ClickHouse, placeOf } from './connect.ts'
import type { ConnectionOptions } from './options.ts'
import { READER } from './reader.ts'

const TABLES = `SELECT name, engine, toString(total_rows) AS records, toString(total_bytes) AS bytes, sorting_key
FROM system.tables WHERE database = {database:String} AND NOT is_temporary ORDER BY name`

/** How rows are read on is not for a list to say: offers read all of a table, each time. */
const AGAIN = { again: 'all' }

export async function* discoverTables(
  options: ConnectionOptions,
  { baseDir, signal }: DiscoverEnv,
): AsyncGenerator<Offer> {
  const { server, database } = placeOf(options)
  const clickhouse = new ClickHouse(options, baseDir, undefined, READER)
  try {
    const rows = await clickhouse.rows(`list the tables of ${server}/${database}`, TABLES, { database })
    signal.throwIfAborted()
    for (const { name, engine, records, bytes, sorting_key: key } of rows)
      yield {
        kind: 'table',
        name: String(name),
        records: known(records),
        bytes: known(bytes),
        about: `${engine}${key === '' ? '' : `, sorted by ${key}`}`,
        options: { table: String(name), ...AGAIN },
      }
  } finally {
    await clickhouse.close()
  }
}

/** Views and tables of other systems are not counted. */
function known(count: unknown): number | undefined {
  return typeof count === 'string' ? Number(count) : undefined
}
