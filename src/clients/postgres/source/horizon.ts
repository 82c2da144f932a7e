/**
 * Which transactions a snapshot knows to be over. Rows are read by the transaction that has left them, not by their values alone: of
 * two transactions the later one may commit first, and what a reader by values has passed it never sees.
 */
import type { PoolClient } from 'pg'
import { AdflowError } from '../../../core/errors.ts'
import type { ReadSession } from './session.ts'

export interface Horizon {
  readonly system: string
  /** All transactions before it that could write in this database are over, and what they have left is in the snapshot. */
  readonly over: bigint
  /** No transaction of this number had begun. */
  readonly next: bigint
  readonly blockBytes: number
  /** Who has transaction `over` open, where the server tells. */
  readonly openedBy?: string
  /** Transaction `over` was open in the snapshot, and nobody has it any more: a new snapshot shows more. */
  readonly passed: boolean
}

/**
 * The snapshot's open transactions, and whose they are. Each session, and each prepared transaction, stands in one database, so what is
 * open in another one writes nothing here, however long it takes. Whoever is not found may be of this one. Snapshots of a standby
 * do not list what is open.
 */
const HORIZON = `
  WITH now AS MATERIALIZED (SELECT pg_current_snapshot() AS s),
  open AS (
    SELECT x, coalesce(a.datname, p.database) AS database, coalesce('process ' || a.pid, 'prepared as ' || quote_literal(p.gid)) AS holder,
      (1000 * extract(epoch FROM coalesce(a.xact_start, p.prepared)))::bigint AS since,
      coalesce('SELECT pg_terminate_backend(' || a.pid || ')', 'ROLLBACK PREPARED ' || quote_literal(p.gid)) AS remedy
    FROM now CROSS JOIN pg_snapshot_xip(s) AS x
    LEFT JOIN pg_locks l ON l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.transactionid = x::xid
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_prepared_xacts p ON p.transaction = x::xid),
  here AS (SELECT * FROM open WHERE database IS NULL OR database = current_database() ORDER BY x LIMIT 1)
  SELECT CASE WHEN pg_is_in_recovery() THEN pg_snapshot_xmin(s) ELSE coalesce(x, pg_snapshot_xmax(s)) END AS over, pg_snapshot_xmax(s) AS next, holder, since, remedy,
    x IS NOT NULL AND database IS NULL AS passed, (SELECT system_identifier FROM pg_control_system()) AS system, current_setting('block_size') AS block
  FROM now LEFT JOIN here ON true`

export async function horizonOf(session: ReadSession): Promise<Horizon> {
  const { system, over, next, holder, passed, block } = await session.one(HORIZON)
  return {
    system: system ?? '',
    over: BigInt(over ?? 0),
    next: BigInt(next ?? 0),
    blockBytes: Number(block),
    ...(typeof holder === 'string' ? { openedBy: holder } : {}),
    passed: passed === 't',
  }
}

export interface OpenTransaction {
  readonly transaction: string
  /** Of whom; undefined: the server does not tell. */
  readonly holder: string | undefined
  /** When it began, in milliseconds since the epoch, by the server's clock; undefined: the user may not see it. */
  readonly sinceMs: number | undefined
  /** SQL that ends it. */
  readonly remedy: string | undefined
}

/** What a reader waits for that would begin now. */
export async function oldestOpen(client: PoolClient): Promise<OpenTransaction | undefined> {
  const { rows } = await client.query<
    Record<'over' | 'next' | 'holder' | 'since' | 'remedy', string | null> & { readonly passed: boolean }
  >(HORIZON)
  const { over, next, holder, since, remedy, passed } = rows[0] ?? {}
  if (passed === true || over === undefined || over === null || over === next) return undefined
  return {
    transaction: over,
    holder: holder ?? undefined,
    sinceMs: since === null || since === undefined ? undefined : Number(since),
    remedy: remedy ?? undefined,
  }
}

/** Rows keep the low half of a number only: beyond this distance it says nothing any more. */
const NEAR = 1n << 31n

/**
 * SQL that is true of rows that transactions in [from, to) have left; without `from` of all before `to`. Subtransactions have numbers of their own
 * and are over where theirs is. An age counts from where a session looked first: both sides of a comparison must be asked of the same one.
 */
export function writtenBetween(from: bigint | undefined, to: bigint, { next }: Pick<Horizon, 'next'>): string {
  if (from !== undefined && (from > next || next - from >= NEAR || to > next))
    throw new AdflowError(
      'SOURCE_CHANGED',
      from > next || to > next
        ? `transaction ${from > next ? from : to} was read, and the server has only come to ${next}: it was put back to an earlier time`
        : `${next - from} transactions have passed since the last run, and rows can be told apart for ${NEAR} only`,
      { hint: '`adflow state rewind --reload` reads the table anew; load it with `write: merge` then' },
    )
  const before = `age(xmin) > ${ageOf(to)}`
  // What was frozen long ago looks as if it were of the future.
  return from === undefined ? `(${before} OR age(xmin) < 0)` : `${before} AND age(xmin) <= ${ageOf(from)}`
}

/** Asked once per statement. */
function ageOf(transaction: bigint): string {
  return `(SELECT age('${transaction & 0xffff_ffffn}'::xid))`
}
