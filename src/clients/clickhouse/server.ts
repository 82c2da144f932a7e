/** What differs between servers, asked once. */
import type { ClickHouseSettings } from '@clickhouse/client'
import type { ClickHouse } from './connect.ts'
import { NARROW, WIDE, type Years } from './types.ts'

export interface Server {
  readonly years: Years
  /** Of an INSERT, where the server knows them: whoever runs it may have another default. */
  readonly settings: ClickHouseSettings
}

/** Newer servers have them. */
const SETTINGS: Readonly<Record<string, string>> = { deduplicate_insert: 'enable', use_strict_insert_block_limits: '0' }

export async function askServer(clickhouse: ClickHouse): Promise<Server> {
  const [row] = await clickhouse.rows(
    'ask the server what it can do',
    `SELECT toString(fromUnixTimestamp64Micro(-62135596800000000, 'UTC')) AS first, (SELECT groupArray(name) FROM system.settings WHERE name IN {names:Array(String)}) AS known`,
    { names: Object.keys(SETTINGS) },
  )
  const known = row?.['known'] as readonly string[]
  return {
    years: String(row?.['first']).startsWith('0001-01-01') ? WIDE : NARROW,
    settings: Object.fromEntries(known.map((name) => [name, SETTINGS[name] ?? ''])),
  }
}
