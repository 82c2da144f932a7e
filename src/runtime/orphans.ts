/**
 * What a batch leaves behind before any store has it: marks of steps, and its quarantine file. When its plan is lost or given
 * up, its range may be cut otherwise and come under another token: to these marks every record would be a duplicate.
 */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { StoreRecord } from '../core/contracts.ts'
import { removeDurably } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import { comparePositions } from '../core/positions.ts'
import { tokenHead, tokenNumber } from '../core/token.ts'
import { Engine, type Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { ledgerSelect } from '../lineage/ledger-sql.ts'
import { ledgerSegments, requireSoundLedger } from '../lineage/ledger-verify.ts'
import type { CheckpointState } from './checkpoint-slot.ts'
import type { StateDir } from './state-dir.ts'

export interface FoldedQuestion {
  /** Tokens that stores name. */
  readonly known: ReadonlySet<string>
  readonly folded: readonly StoreRecord[]
  readonly sources: CheckpointState['sources']
}

/** Numbers of all batches that have marks in the state file, attached as `state`. */
export async function markedNumbers(session: Session): Promise<ReadonlySet<bigint>> {
  const numbers = new Set<bigint>()
  for (const table of await markTables(session))
    for (const row of await session.rows(`SELECT DISTINCT __seq::VARCHAR AS n FROM ${table}`))
      numbers.add(BigInt(String(row['n'])))
  return numbers
}

/** Forgets the marks of these batches; the state file is attached as `state`. */
export async function forgetMarks(session: Session, tokens: Iterable<string>): Promise<void> {
  await deleteMarks(session, [...tokens].map(tokenNumber))
}

/** Forgets the marks of all batches but these. */
export async function forgetOtherMarks(session: Session, known: ReadonlySet<string>): Promise<void> {
  const numbers = new Set([...known].map(tokenNumber))
  const orphans = [...(await markedNumbers(session))].filter((number) => !numbers.has(number))
  await deleteMarks(session, orphans)
}

/** Batches with marks that no store names any more, and that are done: the ledger has closed them, the position of their lane is past them, and
 *  a store says that it has the range they lie in as a whole. */
export async function foldedTokens(
  state: StateDir,
  session: Session,
  { known, folded, sources }: FoldedQuestion,
): Promise<readonly string[]> {
  if (folded.length === 0) return []
  const numbers = new Set([...known].map(tokenNumber))
  const unknown = [...(await markedNumbers(session))].filter((number) => !numbers.has(number))
  if (unknown.length === 0) return []
  const ledger = await ledgerOf(state)
  const list = unknown.map((number) => literal(tokenHead(number))).join(', ')
  const rows = await withStateEngine(state, (own) =>
    own.rows(
      `SELECT DISTINCT token, source, lane, range_from::VARCHAR AS "from", range_to::VARCHAR AS "to" FROM (${ledger}) WHERE type = 'batch_closed' AND left(token, 16) IN (${list})`,
    ),
  )
  const isDone = ({ source, lane, from, to }: Record<string, unknown>) => {
    const at = sources[String(source)]?.[String(lane)]?.at
    if (at === undefined || comparePositions(String(to), at) > 0) return false
    const within = (whole: StoreRecord) =>
      whole.source === source &&
      whole.range.lane === lane &&
      comparePositions(whole.range.from, String(from)) <= 0 &&
      comparePositions(String(to), whole.range.to) <= 0
    return folded.some(within)
  }
  return rows.filter(isDone).map(({ token }) => String(token))
}

/** Removes the quarantine files of batches that are not known and that the ledger has never closed: their records are read again. */
export async function removeOrphanQuarantine(state: StateDir, known: ReadonlySet<string>): Promise<void> {
  const unknown = (await quarantineTokens(state)).filter((token) => !known.has(token))
  if (unknown.length === 0) return
  const closed = await closedTokens(state)
  await removeQuarantine(
    state,
    unknown.filter((token) => !closed.has(token)),
  )
}

export async function removeQuarantine({ quarantine }: StateDir, tokens: Iterable<string>): Promise<void> {
  for (const token of tokens) {
    const file = join(quarantine, `${token}.ndjson`)
    if (existsSync(file)) await removeDurably(file)
  }
}

/** Each look at the ledger in a statement asks for 128 MiB, twice the longest event, of which it uses little; the view `gaps` looks three times. */
const STATE_ENGINE_BYTES = 768_000_000

/** Runs over the job's state folder outside a run: an engine that may read it. */
export async function withStateEngine<T>(state: StateDir, work: (session: Session) => Promise<T>): Promise<T> {
  const engine = await Engine.open({
    memoryBytes: STATE_ENGINE_BYTES,
    threads: 1,
    tempFolder: state.temp,
    locked: false,
  })
  try {
    const session = await engine.connect()
    try {
      return await work(session)
    } finally {
      session.close()
    }
  } finally {
    engine.close()
  }
}

/** A SELECT of all events of the job's ledger, after its chain was walked: what is not in it may be removed.
 *  @throws AdflowError LEDGER_DAMAGED */
export async function ledgerOf(state: StateDir): Promise<string> {
  await requireSoundLedger(state.ledger)
  return ledgerSelect((await ledgerSegments(state.ledger)).map((name) => join(state.ledger, name)))
}

async function closedTokens(state: StateDir): Promise<ReadonlySet<string>> {
  const ledger = await ledgerOf(state)
  const rows = await withStateEngine(state, (session) =>
    session.rows(`SELECT DISTINCT token FROM (${ledger}) WHERE type = 'batch_closed'`),
  )
  return new Set(rows.map((row) => String(row['token'])))
}

async function quarantineTokens({ quarantine }: StateDir): Promise<string[]> {
  try {
    return (await readdir(quarantine))
      .filter((name) => /^[0-9a-f]{64}\.ndjson$/.test(name))
      .map((name) => name.slice(0, 64))
  } catch (error) {
    throw localIoError(error, `list ${quarantine}`)
  }
}

/** SQL names of the tables of steps, those of steps that the job no longer has included. */
async function markTables(session: Session): Promise<string[]> {
  const rows = await session.rows(
    `SELECT table_name AS t FROM duckdb_columns() WHERE database_name = 'state' AND column_name = '__seq' ORDER BY 1`,
  )
  return rows.map((row) => `state.main.${ident(String(row['t']))}`)
}

async function deleteMarks(session: Session, numbers: readonly bigint[]): Promise<void> {
  if (numbers.length === 0) return
  const tables = await markTables(session)
  await session.transaction(async () => {
    for (const table of tables)
      await session.run(`DELETE FROM ${table} WHERE __seq IN (SELECT unnest([${numbers.join(', ')}]::BIGINT[]))`)
  })
}
