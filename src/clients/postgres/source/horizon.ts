/**
 * Which transactions a snapshot knows to be over. Rows are read by the transaction that has left them, not by their values alone: of
 * two transactions the later one may commit first, and what a reader by values has passed it never sees.
 */
import { AdflowError } from '../../../core/errors.ts'
import type { ReadSession } from './session.ts'

export interface Horizon {
  readonly system: string
  /** All transactions before it are over, and what they have left is in the snapshot. */
  readonly over: bigint
  /** No transaction of this number had begun. */
  readonly next: bigint
  readonly blockBytes: number
}

export async function horizonOf(session: ReadSession): Promise<Horizon> {
  const row = await session.one(
    `SELECT pg_snapshot_xmin(s)::text AS over, pg_snapshot_xmax(s)::text AS next, (SELECT system_identifier FROM pg_control_system()) AS system, current_setting('block_size') AS block FROM pg_current_snapshot() AS s`,
  )
  return {
    system: row['system'] ?? '',
    over: BigInt(row['over'] ?? 0),
    next: BigInt(row['next'] ?? 0),
    blockBytes: Number(row['block']),
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
