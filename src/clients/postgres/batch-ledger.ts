/** The batches that a database holds: a table beside the loaded ones, written in the batch's own transaction. */
import type { PoolClient } from 'pg'
import type { BatchInfo, StoreRecord } from '../../core/contracts.ts'
import { ident } from '../../engine/sql-text.ts'

export const LEDGER_TABLE = '_adflow_batches'

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
  job: string,
): Promise<readonly StoreRecord[]> {
  const { rows } = await client.query<Record<string, string>>(
    `SELECT token, source, lane, from_position, to_position, digest, rows, to_char(clock AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS clock FROM ${ledgerSql(schema)} WHERE job = $1 AND loader = $2 AND target = $3 ORDER BY loaded_at, token`,
    [job, loader, target],
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
