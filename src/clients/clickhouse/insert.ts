/**
 * One batch, one INSERT, one block, so one part for each partition: each is there whole or not at all, under the token of the
 * batch. Repeated in the same way it is refused part by part, in the table and behind its views, for as long as the tables
 * remember the token.
 */
import type { ClickHouseSettings } from '@clickhouse/client'
import type { LoadBatch } from '../../core/contracts.ts'
import type { BatchLedger } from './batch-ledger.ts'
import { type FoundTable, highestBlocks, isReplicated } from './catalog.ts'
import type { ClickHouse } from './connect.ts'
import { labelOf, type TableName, tableSql } from './ddl.ts'
import type { EncodedBatch } from './encode.ts'
import { ident, literal } from './sql-text.ts'

export interface Insertion {
  readonly clickhouse: ClickHouse
  readonly ledger: BatchLedger
  /** The table, and behind it every table that its views write to. */
  readonly fed: readonly [FoundTable, ...FoundTable[]]
  readonly batchColumn: string | undefined
  readonly encoded: EncodedBatch
  /** Of this server. */
  readonly settings: ClickHouseSettings
  readonly signal: AbortSignal
}

const UNLIMITED = '1000000000000000'
/** More in one batch are an error: most likely the partitions are too fine. */
const MOST_PARTITIONS = '1000'

/** All rows of a block stay together: what is cut in another way when it is repeated is no repetition. */
const ONE_BLOCK: ClickHouseSettings = {
  async_insert: 0,
  max_insert_block_size: UNLIMITED,
  min_insert_block_size_rows: UNLIMITED,
  min_insert_block_size_bytes: UNLIMITED,
  min_insert_block_size_rows_for_materialized_views: UNLIMITED,
  min_insert_block_size_bytes_for_materialized_views: UNLIMITED,
  max_insert_threads: '1',
  max_partitions_per_insert_block: MOST_PARTITIONS,
  throw_on_max_partitions_per_insert_block: 1,
  insert_deduplicate: 1,
  deduplicate_blocks_in_dependent_materialized_views: 1,
  materialized_views_ignore_errors: 0,
  input_format_null_as_default: 0,
  input_format_parquet_allow_missing_columns: 0,
  input_format_parquet_preserve_order: 1,
}

/** Sends a batch of which nothing is there. `attempt` is part of its token: what an earlier one has left in the memory of a table is
 *  of no account. */
export async function beginBatch(insertion: Insertion, batch: LoadBatch, attempt: number): Promise<void> {
  const { clickhouse, encoded, fed, ledger } = insertion
  const blocks = await highestBlocks(clickhouse, fed)
  await ledger.add('begun', batch, { rows: encoded.rows, content: encoded.content, blocks, attempt })
  await sendAgain(insertion, batch, attempt)
}

/** In the same way as before, under the same token: parts that a table remembers are dropped. */
export async function sendAgain(insertion: Insertion, batch: LoadBatch, attempt: number): Promise<void> {
  const { encoded, fed } = insertion
  const settings = {
    // Tables of one job that feed one table through their views write different blocks into it.
    insert_deduplication_token: `adflow ${batch.token} ${labelOf(fed[0])} ${attempt}`,
    ...(isReplicated(fed[0]) ? { insert_quorum: 'auto' } : {}),
  }
  await send(insertion, batch, `INSERT INTO ${tableSql(fed[0])} (${namesOf(encoded)}) FORMAT Parquet`, settings)
}

/** Only the rows for which `condition` holds, whatever a table remembers. */
export async function sendWhere(insertion: Insertion, batch: LoadBatch, condition: string): Promise<void> {
  const { encoded, fed } = insertion
  const structure = encoded.columns.map(({ name, type }) => `${ident(name)} ${type}`).join(', ')
  const select = `SELECT ${namesOf(encoded)} FROM input(${literal(structure)}) WHERE ${condition} SETTINGS max_threads = 1`
  const into = `INSERT INTO ${tableSql(fed[0])} (${namesOf(encoded)})`
  await send(insertion, batch, `${into} ${select} FORMAT Parquet`, { insert_deduplicate: 0 })
}

/** Into a table aside. */
export async function sendInto(insertion: Insertion, batch: LoadBatch, table: TableName): Promise<void> {
  const sql = `INSERT INTO ${tableSql(table)} (${namesOf(insertion.encoded)}) FORMAT Parquet`
  await send(insertion, batch, sql, { insert_deduplicate: 0 })
}

async function send(
  { clickhouse, encoded, fed, settings, signal }: Insertion,
  { token }: LoadBatch,
  sql: string,
  own: ClickHouseSettings,
): Promise<void> {
  await clickhouse.insertFile(`write batch ${token.slice(0, 12)} to ${labelOf(fed[0])}`, sql, encoded.file, {
    signal,
    settings: { ...ONE_BLOCK, ...settings, ...own },
  })
}

function namesOf({ columns }: EncodedBatch): string {
  return columns.map(({ name }) => ident(name)).join(', ')
}
