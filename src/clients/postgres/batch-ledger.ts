/** The batches that a database holds: a table beside the loaded ones, written in the batch's own transaction. */
import type { PoolClient } from 'pg'
import type { BatchInfo, Since, StoreRecord } from '../../core/contracts.ts'
import { type LanePlace, lanesToTell } from '../../core/lanes-to-tell.ts'
import { ident } from '../../engine/sql-text.ts'

export const LEDGER_TABLE = '_adflow_batches'
const LANE_INDEX = '_adflow_batches_lanes'

export interface LedgerPlace {
  readonly schema: string
  /** `schema.table`. The same token may go to several tables. */
  readonly target: string
  /** Id of the loader in its job. */
  readonly loader: string
}

export interface HeldBatch {
  readonly digest: string
  readonly rows: number
}

function ledgerSql(schema: string): string {
  return `${ident(schema)}.${ident(LEDGER_TABLE)}`
}

/** Asked first: who may write but not create must not be refused for a table that is there. */
export async function createLedger(client: PoolClient, schema: string): Promise<void> {
  const { rows } = await client.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [
    ledgerSql(schema),
  ])
  if (rows[0]?.found === true) return
  await client.query(
    `CREATE TABLE IF NOT EXISTS ${ledgerSql(schema)} (token text, target text, loader text NOT NULL, job text NOT NULL, source text NOT NULL, lane text NOT NULL, from_position text NOT NULL, to_position text NOT NULL, digest text NOT NULL, rows bigint NOT NULL, clock timestamptz NOT NULL, loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (token, target))`,
  )
  await client.query(createIndexSql(schema))
}

/** An index takes no text of any length: of a longer lane, its beginning and 128 bits of hash. */
function laneKey(lane: string): string {
  const hashes = [0, 1].map((seed) => `hashtextextended(${lane}, ${seed})::text`).join(` || ' ' || `)
  return `(CASE WHEN length(${lane}) <= 200 THEN ${lane} ELSE left(${lane}, 200) || ' ' || ${hashes} END) COLLATE "C"`
}

/** By which the last batches of each lane are found without a look at the others. Texts by their bytes, whatever the database compares by. */
const OWNER = ['target COLLATE "C"', 'job COLLATE "C"', 'loader COLLATE "C"']
const LANE = ['source COLLATE "C"', laneKey('lane')]
const PLACE = ['length(from_position)', 'from_position COLLATE "C"']

function indexSql(schema: string): string {
  return `${ident(schema)}.${ident(LANE_INDEX)}`
}

/**
 * The statements that make the index of a table that an earlier version has made: one by one, outside of a transaction, while others write. What
 * a kill leaves of it is no index, and goes first. None: it is there or being made, or not ours to make.
 */
export async function indexStatements(client: PoolClient, schema: string): Promise<readonly string[]> {
  const { rows } = await client.query<{ part: boolean }>(
    `SELECT i.indexrelid IS NOT NULL AS part FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = to_regclass($2) WHERE c.oid = to_regclass($1) AND i.indisvalid IS NOT TRUE AND pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(c.relnamespace, 'CREATE') AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = c.oid)`,
    [ledgerSql(schema), indexSql(schema)],
  )
  const [table] = rows
  if (table === undefined) return []
  const create = createIndexSql(schema, 'CONCURRENTLY')
  return table.part ? [`DROP INDEX CONCURRENTLY IF EXISTS ${indexSql(schema)}`, create] : [create]
}

function createIndexSql(schema: string, how: 'CONCURRENTLY' | '' = ''): string {
  const keys = [...OWNER, ...LANE, ...PLACE].map((key) => key.replace(/^length.*$/, '($&)'))
  return `CREATE INDEX ${how} IF NOT EXISTS ${ident(LANE_INDEX)} ON ${ledgerSql(schema)} (${keys.join(', ')})`
}

/** Where the last batch of each lane begins. */
async function topsOf(client: PoolClient, { schema, target, loader }: LedgerPlace, job: string): Promise<LanePlace[]> {
  const table = ledgerSql(schema)
  const own = 'job COLLATE "C" = $1 AND loader COLLATE "C" = $2 AND target COLLATE "C" = $3'
  const order = `ORDER BY ${[...LANE, ...PLACE].map((key) => `${key} DESC`).join(', ')}`
  const lane = LANE.join(', ')
  const { rows: indexes } = await client.query(
    'SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid',
    [indexSql(schema)],
  )
  // From lane to lane by the index, a look for each.
  const sql =
    indexes.length > 0
      ? `WITH RECURSIVE tops AS ((SELECT source, lane, from_position FROM ${table} WHERE ${own} ${order} LIMIT 1) UNION ALL SELECT b.* FROM tops t CROSS JOIN LATERAL (SELECT source, lane, from_position FROM ${table} WHERE ${own} AND (${lane}) < (t.source COLLATE "C", ${laneKey('t.lane')}) ${order} LIMIT 1) b) SELECT source, lane, from_position AS at FROM tops`
      : `SELECT DISTINCT ON (${lane}) source, lane, from_position AS at FROM ${table} WHERE ${own} ${order}`
  const { rows } = await client.query<LanePlace>(sql, [job, loader, target])
  return rows
}

export async function findBatch(
  client: PoolClient,
  { schema, target }: LedgerPlace,
  token: string,
): Promise<HeldBatch | undefined> {
  const { rows } = await client.query<{ digest: string; rows: string }>(
    `SELECT digest, rows FROM ${ledgerSql(schema)} WHERE token = $1 AND target = $2`,
    [token, target],
  )
  return rows[0] === undefined ? undefined : { digest: rows[0].digest, rows: Number(rows[0].rows) }
}

/** The first statement of the batch's transaction: of two that write one token the second waits here, and finds it taken. */
export async function claimBatch(
  client: PoolClient,
  { schema, target, loader }: LedgerPlace,
  { token, job, source, range, digest, clock }: BatchInfo,
  rows: number,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO ${ledgerSql(schema)} (token, target, loader, job, source, lane, from_position, to_position, digest, rows, clock) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (token, target) DO NOTHING`,
    [token, target, loader, job, source, range.lane, range.from, range.to, digest, rows, clock],
  )
  return rowCount === 1
}

/** By loader too: the positions of one loader say nothing about those of another on the same table. */
export async function batchesOf(
  client: PoolClient,
  { schema, target, loader }: LedgerPlace,
  { job, since }: { readonly job: string; readonly since: Since | undefined },
): Promise<readonly StoreRecord[]> {
  const own = 'b.job COLLATE "C" = $1 AND b.loader COLLATE "C" = $2 AND b.target COLLATE "C" = $3'
  const values: unknown[] = [job, loader, target]
  const lanes = since && lanesToTell(await topsOf(client, { schema, target, loader }, job), since)
  if (lanes?.length === 0) return []
  if (lanes !== undefined)
    values.push(...(['source', 'lane', 'at'] as const).map((name) => lanes.map((one) => one[name])))
  const from =
    lanes === undefined
      ? `${ledgerSql(schema)} b WHERE ${own}`
      : `unnest($4::text[], $5::text[], $6::text[]) AS w(source, lane, at) CROSS JOIN LATERAL (SELECT * FROM ${ledgerSql(schema)} b WHERE ${own} AND b.source COLLATE "C" = w.source AND ${laneKey('b.lane')} = ${laneKey('w.lane')} AND b.lane = w.lane AND (length(b.from_position), b.from_position COLLATE "C") >= (length(w.at), w.at COLLATE "C")) b`
  const { rows } = await client.query<Record<string, string>>(
    `SELECT b.token, b.source, b.lane, b.from_position, b.to_position, b.digest, b.rows, to_char(b.clock AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS clock FROM ${from} ORDER BY b.loaded_at, b.token`,
    values,
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
