/**
 * The batches that a database holds: a table beside the loaded ones. ClickHouse has no transaction over two tables, so a batch
 * has two entries: `begun` before its rows are sent, `written` when they are in the table and in every table behind its views.
 * Between the two nobody knows, and the next write finds out.
 */
import type { BatchInfo, Since, StoreRecord } from '../../core/contracts.ts'
import { type LanePlace, lanesToTell } from '../../core/lanes-to-tell.ts'
import { hasTable } from './catalog.ts'
import type { ClickHouse } from './connect.ts'
import { DURABLE, onCluster, type TableName, tableSql } from './ddl.ts'
import { literal } from './sql-text.ts'

export const LEDGER_TABLE = '_adflow_batches'

/** The same second, give or take one, for as long as a server runs. */
const STARTED = 'toUInt32(toUnixTimestamp(now()) - uptime())'

export interface LedgerPlace {
  readonly database: string
  /** `database.table`. The same token may go to several tables. */
  readonly target: string
  /** Id of the loader in its job. */
  readonly loader: string
}

/** `database.table` → highest number of a block in it. */
export type Blocks = Readonly<Record<string, number>>

export interface Entry {
  readonly digest: string
  readonly rows: number
  /** Of the rows themselves: see contentOf() in encode.ts. */
  readonly content: string
  /** Part of the token under which the rows were sent. */
  readonly attempt: number
  /** Where the target and the tables behind its views stood before the rows were sent. */
  readonly blocks: Blocks
  /** Seconds since the entry was made, by the clock of the server. */
  readonly ageSeconds: number
  /** The server was started again since, or it is another one. */
  readonly restarted: boolean
}

export interface Entries {
  readonly written: Entry | undefined
  /** Not where somebody has looked and found nothing. */
  readonly begun: Entry | undefined
  /** Number of an attempt that nothing can have been left of. */
  readonly nextAttempt: number
}

/** `void` is written by hand: somebody has looked, and nothing of the batch is there. */
type State = 'begun' | 'written' | 'void'

export class BatchLedger {
  readonly #clickhouse: ClickHouse
  readonly #place: LedgerPlace
  readonly #table: string

  constructor(clickhouse: ClickHouse, place: LedgerPlace) {
    this.#clickhouse = clickhouse
    this.#place = place
    this.#table = tableSql({ database: place.database, table: LEDGER_TABLE })
  }

  get name(): TableName {
    return { database: this.#place.database, table: LEDGER_TABLE }
  }

  exists(): Promise<boolean> {
    return hasTable(this.#clickhouse, this.name)
  }

  async create({
    cluster,
    replicated,
  }: {
    readonly cluster: string | undefined
    readonly replicated: boolean
  }): Promise<void> {
    const text = [
      'target',
      'token',
      'loader',
      'job',
      'source',
      'lane',
      'from_position',
      'to_position',
      'digest',
      'content',
      'clock',
    ]
    await this.#clickhouse.command(
      `make ${this.#table}`,
      `CREATE TABLE IF NOT EXISTS ${this.#table}${onCluster(cluster)} (${text.map((name) => `${name} String`).join(', ')}, state Enum8('begun' = 1, 'written' = 2, 'void' = 3), rows UInt64, attempt UInt32, blocks Map(String, UInt64), at DateTime64(6, 'UTC') DEFAULT now64(6), server_started UInt32 DEFAULT ${STARTED}) ENGINE = ${replicated ? 'Replicated' : ''}MergeTree ORDER BY (target, token, at) SETTINGS ${DURABLE}`,
    )
  }

  async find(token: string): Promise<Entries> {
    const rows = await this.#clickhouse.rows(
      `look for a batch of ${this.#place.target}`,
      `SELECT state, digest, rows, content, attempt, blocks, dateDiff('second', at, now()) AS age, abs(toInt64(${STARTED}) - toInt64(server_started)) > 1 AS restarted FROM ${this.#table} WHERE target = {target:String} AND token = {token:String} ORDER BY at`,
      { target: this.#place.target, token },
    )
    // Of several the first that was written counts; a batch may have begun anew.
    const written = rows.find(({ state }) => state === 'written')
    const begun = rows.findLast(({ state }) => state !== 'written')
    return {
      written: written && entryOf(written),
      begun: begun === undefined || begun['state'] === 'void' ? undefined : entryOf(begun),
      nextAttempt: 1 + Math.max(0, ...rows.map(({ attempt }) => Number(attempt))),
    }
  }

  /** Resolved: durable. Several of one batch do no harm. */
  async add(
    state: Exclude<State, 'void'>,
    batch: BatchInfo,
    { rows, content, attempt, blocks }: Omit<Entry, 'digest' | 'ageSeconds' | 'restarted'>,
  ): Promise<void> {
    const { clock, digest, job, range, source, token } = batch
    const { loader, target } = this.#place
    const texts = {
      target,
      token,
      loader,
      job,
      source,
      lane: range.lane,
      from_position: range.from,
      to_position: range.to,
    }
    const values = Object.entries({ ...texts, digest, content, clock, state })
    const map = Object.entries(blocks).flatMap(([table, number]) => [literal(table), String(number)])
    await this.#clickhouse.command(
      `note batch ${token.slice(0, 12)} of ${target}`,
      `INSERT INTO ${this.#table} (${values.map(([name]) => name).join(', ')}, rows, attempt, blocks) SELECT ${values.map(([, value]) => literal(value)).join(', ')}, ${rows}, ${attempt}, CAST(map(${map.join(', ')}), 'Map(String, UInt64)')`,
      { async_insert: 0 },
    )
  }

  /** Highest block that any batch has seen of each table: numbers of dropped parts count too. */
  async highest(): Promise<Blocks> {
    const [row] = await this.#clickhouse.rows(
      `look at the batches of ${this.#place.target}`,
      `SELECT maxMap(blocks) AS blocks FROM ${this.#table} WHERE target = {target:String}`,
      { target: this.#place.target },
    )
    return blocksOf(row)
  }

  /** By loader too: the positions of one loader say nothing about those of another on the same table. */
  async history(job: string, since: Since | undefined): Promise<readonly StoreRecord[]> {
    const { loader, target } = this.#place
    const lanes = since && lanesToTell(await this.#tops(job), since)
    if (lanes?.length === 0) return []
    const wanted = lanes === undefined ? '' : ` AND (${lanes.map(behindSql).join(' OR ')})`
    const rows = await this.#clickhouse.rows(
      `read the batches of ${target}`,
      `SELECT token, source, lane, from_position, to_position, digest, rows, clock, loader, job FROM (SELECT * FROM ${this.#table} WHERE target = {target:String} AND state = 'written'${wanted} ORDER BY at LIMIT 1 BY token) WHERE job = {job:String} AND loader = {loader:String} ORDER BY at, token`,
      { target, job, loader },
    )
    return rows.map((row) => ({
      token: String(row['token']),
      source: String(row['source']),
      range: { lane: String(row['lane']), from: String(row['from_position']), to: String(row['to_position']) },
      digest: String(row['digest']),
      rows: Number(row['rows']),
      clock: String(row['clock']),
    }))
  }

  /** Where the last batch of each lane begins. All entries are looked at, by the server, and few of their columns. */
  async #tops(job: string): Promise<LanePlace[]> {
    const { loader, target } = this.#place
    const rows = await this.#clickhouse.rows(
      `look at the batches of ${target}`,
      `SELECT source, lane, argMax(from_position, (length(from_position), from_position)) AS top FROM ${this.#table} WHERE target = {target:String} AND state = 'written' AND job = {job:String} AND loader = {loader:String} GROUP BY source, lane`,
      { target, job, loader },
    )
    return rows.map(({ source, lane, top }) => ({ source: String(source), lane: String(lane), at: String(top) }))
  }
}

function behindSql({ source, lane, at }: LanePlace): string {
  return `(source = ${literal(source)} AND lane = ${literal(lane)} AND (length(from_position), from_position) >= (${at.length}, ${literal(at)}))`
}

function entryOf(row: Readonly<Record<string, unknown>>): Entry {
  return {
    digest: String(row['digest']),
    rows: Number(row['rows']),
    content: String(row['content']),
    attempt: Number(row['attempt']),
    blocks: blocksOf(row),
    ageSeconds: Number(row['age']),
    restarted: Number(row['restarted']) === 1,
  }
}

function blocksOf(row: Readonly<Record<string, unknown>> | undefined): Blocks {
  const blocks = (row?.['blocks'] ?? {}) as Readonly<Record<string, string>>
  return Object.fromEntries(Object.entries(blocks).map(([table, number]) => [table, Number(number)]))
}
