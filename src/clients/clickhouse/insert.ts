/**
 * One batch, one INSERT, one block, so one part for each partition: each is there whole or not at all, under the token of the
 * batch. Repeated in the same way it is refused part by part, in the table and behind its views, for as long as the tables
 * remember the token.
 */
import type { ClickHouseSettings } from '@clickhouse/client'
import type { LoadBatch } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { tokenNumber } from '../../core/token.ts'
import type { BatchLedger, Entry } from './batch-ledger.ts'
import { type FoundTable, highestBlocks, isReplicated, rowsOf } from './catalog.ts'
import type { ClickHouse } from './connect.ts'
import { labelOf, tableSql } from './ddl.ts'
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

/** Sends the rows, whatever an earlier attempt has left. Resolved: each is there once. */
export async function insertBatch(insertion: Insertion, batch: LoadBatch, begun: Entry | undefined): Promise<void> {
  const { clickhouse, encoded, fed, ledger } = insertion
  if (begun === undefined) {
    if (encoded.written === 0) return
    const blocks = await highestBlocks(clickhouse, fed)
    await ledger.add('begun', batch, { rows: encoded.rows, content: encoded.content, blocks })
    await send(insertion, batch, statement(insertion))
    return
  }
  const doubt = new Doubt(insertion, batch)
  if (!isSame(begun, encoded)) {
    if ((await doubt.found()) !== 0) throw doubt.unresolved('it was begun with other rows, under other rules')
    await ledger.add('begun', batch, { rows: encoded.rows, content: encoded.content, blocks: begun.blocks })
  }
  await send(insertion, batch, (await isOverrun(insertion, begun)) ? doubt.missingParts() : statement(insertion))
  await doubt.settle()
}

/** What came of an attempt that nobody has heard the end of. */
class Doubt {
  readonly #insertion: Insertion
  readonly #batch: LoadBatch
  readonly #number: bigint

  constructor(insertion: Insertion, batch: LoadBatch) {
    this.#insertion = insertion
    this.#batch = batch
    this.#number = tokenNumber(batch.token)
  }

  /** Rows that are there; undefined where they cannot be told: rows of other engines go when they are merged, and what is behind
   *  a view knows no batches. */
  async found(): Promise<number | undefined> {
    const column = this.#column
    const { clickhouse, fed } = this.#insertion
    return column === undefined || fed.length > 1 ? undefined : rowsOf(clickhouse, fed[0], ident(column), this.#number)
  }

  /** Sends only what belongs into partitions that have nothing of the batch. */
  missingParts(): string {
    const { fed } = this.#insertion
    const column = this.#column
    if (column === undefined || fed.length > 1)
      throw this.unresolved('its tables have taken more blocks since than they remember')
    const { partitionKey } = fed[0]
    const place = partitionKey === '' ? "'all'" : `toString(tuple(${partitionKey}))`
    const present = `(SELECT groupUniqArray(${place}) FROM ${tableSql(fed[0])} WHERE ${ident(column)} = ${this.#number})`
    return statement(this.#insertion, `NOT has(${present}, ${place})`)
  }

  /** @throws AdflowError STORE_MISMATCH where the rows are not those of the batch */
  async settle(): Promise<void> {
    const { encoded, fed } = this.#insertion
    const found = this.#column === undefined ? undefined : await this.#count()
    if (found === undefined || found === encoded.written || (found < encoded.written && fed[0].hasTtl)) return
    throw this.unresolved(`${found} of its ${encoded.written} rows are there`)
  }

  unresolved(why: string): AdflowError {
    const { fed, ledger } = this.#insertion
    const { token } = this.#batch
    const where = `target = ${literal(labelOf(fed[0]))} AND token = ${literal(token)}`
    const table = tableSql(ledger.name)
    return new AdflowError(
      'STORE_MISMATCH',
      `nobody knows what ${fed.map(labelOf).join(', ')} ${fed.length > 1 ? 'have' : 'has'} of batch ${token.slice(0, 12)}: ${why}`,
      {
        hint: `look (its number is ${this.#number}). All there: INSERT INTO ${table} SELECT * REPLACE ('written' AS state) FROM ${table} WHERE ${where} LIMIT 1. Nothing there: DELETE FROM ${table} WHERE ${where}`,
      },
    )
  }

  #count(): Promise<number> {
    const { batchColumn = '', clickhouse, fed } = this.#insertion
    return rowsOf(clickhouse, fed[0], ident(batchColumn), this.#number)
  }

  get #column(): string | undefined {
    const { batchColumn, fed } = this.#insertion
    return /^(?:Replicated|Shared)?MergeTree$/.test(fed[0].engine) ? batchColumn : undefined
  }
}

/** Of the same rows, as far as versions of the engine can be compared. */
function isSame(begun: Entry, { content, rows }: EncodedBatch): boolean {
  const [version] = content.split(' ')
  return begun.content.startsWith(`${version} `) ? begun.content === content : begun.rows === rows
}

/** true: a table may have forgotten the token. */
async function isOverrun({ clickhouse, fed, ledger }: Insertion, { ageSeconds, blocks }: Entry): Promise<boolean> {
  const [now, highest] = [await highestBlocks(clickhouse, fed), await ledger.highest()]
  return fed.some((table) => {
    const name = labelOf(table)
    const since = Math.max(now[name] ?? 0, highest[name] ?? 0) - (blocks[name] ?? 0)
    return since >= table.window || ageSeconds >= (table.windowSeconds ?? Number.POSITIVE_INFINITY)
  })
}

function statement({ encoded, fed }: Insertion, where?: string): string {
  const names = encoded.columns.map(({ name }) => ident(name)).join(', ')
  const into = `INSERT INTO ${tableSql(fed[0])} (${names})`
  if (where === undefined) return `${into} FORMAT Parquet`
  const structure = encoded.columns.map(({ name, type }) => `${ident(name)} ${type}`).join(', ')
  return `${into} SELECT ${names} FROM input(${literal(structure)}) WHERE ${where} SETTINGS max_threads = 1 FORMAT Parquet`
}

async function send(
  { clickhouse, encoded, fed, settings, signal }: Insertion,
  { token }: LoadBatch,
  sql: string,
): Promise<void> {
  const target = labelOf(fed[0])
  await clickhouse.insertFile(`write batch ${token.slice(0, 12)} to ${target}`, sql, encoded.file, {
    signal,
    settings: {
      ...ONE_BLOCK,
      ...settings,
      // Tables of one job that feed one table through their views write different blocks into it.
      insert_deduplication_token: `adflow ${token} ${target}`,
      ...(isReplicated(fed[0]) ? { insert_quorum: 'auto' } : {}),
    },
  })
}
