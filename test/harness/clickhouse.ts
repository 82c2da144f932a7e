/** ClickHouse as others see it: a client of the test's own. */
import { createClient } from '@clickhouse/client'

/** Rows of a SELECT, or none of a statement. 64-bit integers come as text. */
export async function onClickHouse(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = createClient({ url, clickhouse_settings: { output_format_json_quote_64bit_integers: 1 } })
  try {
    if (!/^SELECT/.test(sql)) {
      await client.command({ query: sql })
      return []
    }
    const answer = await client.query({ query: sql, format: 'JSONEachRow' })
    return await answer.json<Record<string, unknown>>()
  } finally {
    await client.close()
  }
}
