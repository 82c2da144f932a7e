/** Plain DuckDB beside the code under test: to look at what it wrote with somebody else's eyes. */
import { DuckDBInstance } from '@duckdb/node-api'

/** Rows as JSON values: big integers and decimals as text. */
export async function duckdbRows(sql: string, setup: readonly string[] = []): Promise<Record<string, unknown>[]> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '2' })
  const connection = await instance.connect()
  try {
    await connection.run(`SET GLOBAL TimeZone = 'UTC'`)
    for (const statement of setup) await connection.run(statement)
    return (await connection.runAndReadAll(sql)).getRowObjectsJson()
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

/** Changes a DuckDB file by hand, as people do. */
export async function changeDatabase(file: string, sql: string): Promise<void> {
  const instance = await DuckDBInstance.create(file)
  const connection = await instance.connect()
  try {
    await connection.run(sql)
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}
