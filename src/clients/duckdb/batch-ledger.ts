/** The batches that an attached DuckDB file holds: a table of the file itself, written in the batch's own transaction. */
import type { BatchInfo, EngineConnection, Since, StoreRecord } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { type LanePlace, lanesToTell } from '../../core/lanes-to-tell.ts'
import type { ContentDigest } from '../../core/store-contract.ts'
import { ident, list, literal } from '../../engine/sql-text.ts'
import { tableColumns } from './table.ts'

const LEDGER_TABLE = '_adflow_batches'

/** What a batch was written to, and by whom. */
export interface LedgerPlace {
  /** Name under which the file is attached. */
  readonly database: string
  /** `schema.table`. The same token may go to several tables of one file. */
  readonly target: string
  /** Id of the loader in its job. */
  readonly loader: string
}

export function ledgerSql(database: string): string {
  return `${ident(database)}."main".${ident(LEDGER_TABLE)}`
}

export async function createLedger(engine: EngineConnection, database: string): Promise<void> {
  await engine.run(
    `CREATE TABLE IF NOT EXISTS ${ledgerSql(database)} (token VARCHAR, target VARCHAR, loader VARCHAR, job VARCHAR, source VARCHAR, lane VARCHAR, from_position VARCHAR, to_position VARCHAR, digest VARCHAR, "rows" BIGINT, clock TIMESTAMPTZ, loaded_at TIMESTAMPTZ, hashed VARCHAR, content VARCHAR, PRIMARY KEY (token, target))`,
  )
  // A file that an earlier version of adflow has made.
  for (const name of ['hashed', 'content'])
    await engine.run(`ALTER TABLE ${ledgerSql(database)} ADD COLUMN IF NOT EXISTS ${name} VARCHAR`)
}

/** A batch that the file holds. */
export interface HeldBatch {
  readonly digest: string
  readonly rows: number
  readonly content?: ContentDigest
}

/** By target, not by loader: a loader that got another id in its job must not load everything again. */
export async function findBatch(
  engine: EngineConnection,
  { database, target }: LedgerPlace,
  token: string,
): Promise<HeldBatch | undefined> {
  const [row] = await engine.rows(
    `SELECT digest, "rows", content FROM ${ledgerSql(database)} WHERE token = ${literal(token)} AND target = ${literal(target)}`,
  )
  if (row === undefined) return undefined
  const { digest, rows, content } = row
  return {
    digest: String(digest),
    rows: Number(rows),
    ...(typeof content === 'string' ? { content: JSON.parse(content) as ContentDigest } : {}),
  }
}

interface Recorded {
  readonly rows: number
  /** Columns behind the content, as duckdb/content.ts writes them. */
  readonly hashed?: string
  readonly content?: ContentDigest
  /** In the place of the entry that may be there. */
  readonly again?: boolean
}

export async function recordBatch(
  engine: EngineConnection,
  { database, target, loader }: LedgerPlace,
  { token, job, source, range, digest, clock }: BatchInfo,
  { rows, hashed, content, again = false }: Recorded,
): Promise<void> {
  const texts = [token, target, loader, job, source, range.lane, range.from, range.to, digest].map(literal).join(', ')
  // Not now(): on the session of a batch that is the clock of the batch, and merges are told apart by what came last.
  await engine.run(
    `INSERT ${again ? 'OR REPLACE ' : ''}INTO ${ledgerSql(database)} (token, target, loader, job, source, lane, from_position, to_position, digest, "rows", clock, loaded_at, hashed, content) VALUES (${texts}, ${rows}, ${literal(clock)}::TIMESTAMPTZ, get_current_timestamp(), ${hashed === undefined ? 'NULL' : literal(hashed)}, ${content === undefined ? 'NULL' : literal(JSON.stringify(content))})`,
  )
}

/** The entry of a batch has another digest than the batch that comes. */
export function otherBytes(label: string, { token, range, source }: BatchInfo, digest: string): AdflowError {
  return new AdflowError(
    'STORE_MISMATCH',
    `${label} holds batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) with the digest ${digest}; it now has other bytes`,
    { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
  )
}

/** By loader too: the positions of one loader say nothing about those of another on the same table. */
export async function batchesOf(
  engine: EngineConnection,
  { database, target, loader }: LedgerPlace,
  { job, since }: { readonly job: string; readonly since: Since | undefined },
): Promise<readonly StoreRecord[]> {
  const own = `FROM ${ledgerSql(database)} WHERE job = ${literal(job)} AND loader = ${literal(loader)} AND target = ${literal(target)}`
  const lanes = since && lanesToTell(await topsOf(engine, own), since)
  if (lanes?.length === 0) return []
  const wanted = lanes === undefined ? '' : ` AND (${lanes.map(behindSql).join(' OR ')})`
  const rows = await engine.rows(
    `SELECT token, source, lane, from_position, to_position, digest, "rows", epoch_ms(clock) AS clock_ms ${own}${wanted} ORDER BY loaded_at, token`,
  )
  return rows.map((row) => ({
    token: String(row['token']),
    source: String(row['source']),
    range: { lane: String(row['lane']), from: String(row['from_position']), to: String(row['to_position']) },
    digest: String(row['digest']),
    rows: Number(row['rows']),
    ...(row['clock_ms'] === null ? {} : { clock: new Date(Number(row['clock_ms'])).toISOString() }),
  }))
}

/** Where the last batch of each lane begins. */
async function topsOf(engine: EngineConnection, own: string): Promise<LanePlace[]> {
  const rows = await engine.rows(
    `SELECT source, lane, arg_max(from_position, struct_pack(digits := length(from_position), at := from_position)) AS top ${own} GROUP BY source, lane`,
  )
  return rows.map(({ source, lane, top }) => ({ source: String(source), lane: String(lane), at: String(top) }))
}

function behindSql({ source, lane, at }: LanePlace): string {
  return `(source = ${literal(source)} AND lane = ${literal(lane)} AND (length(from_position), from_position) >= (${at.length}, ${literal(at)}))`
}

/** Which of these tokens the file has for the target; none where it has no ledger yet. */
export async function remembered(
  engine: EngineConnection,
  { database, target }: LedgerPlace,
  tokens: readonly string[],
): Promise<ReadonlySet<string>> {
  const columns = await tableColumns(engine, { database, schema: 'main', table: LEDGER_TABLE })
  if (columns.length === 0) return new Set()
  const rows = await engine.rows(
    `SELECT token FROM ${ledgerSql(database)} WHERE target = ${literal(target)} AND list_contains(${list(tokens)}, token)`,
  )
  return new Set(rows.map((row) => String(row['token'])))
}

/** Of all jobs, for the target, without the marks of heals; none where the file has no ledger yet. */
export async function entriesOf(
  engine: EngineConnection,
  { database, target }: LedgerPlace,
): Promise<ReadonlyMap<string, { readonly job: string; readonly rows: number }>> {
  const columns = await tableColumns(engine, { database, schema: 'main', table: LEDGER_TABLE })
  if (columns.length === 0) return new Map()
  const rows = await engine.rows(
    `SELECT token, job, "rows" FROM ${ledgerSql(database)} WHERE target = ${literal(target)} AND digest <> 'heal'`,
  )
  return new Map(rows.map((row) => [String(row['token']), { job: String(row['job']), rows: Number(row['rows']) }]))
}

/** Whether the file keeps the columns and contents of batches: one that no run of this version has opened does not. */
export async function keepsContents(engine: EngineConnection, { database }: LedgerPlace): Promise<boolean> {
  const columns = await tableColumns(engine, { database, schema: 'main', table: LEDGER_TABLE })
  return columns.some(({ name }) => name === 'hashed')
}
