/**
 * Batches without a record, by which a stream lets time pass while its sources are silent. They have a source and a lane of their own, whose positions
 * are milliseconds since the epoch: the clock of such a batch is a part of its range, and so of its token.
 */
import type { Range } from './contracts.ts'

/** No name that a job file can give. */
export const IDLE_SOURCE = '_idle'
export const IDLE_LANE = 'clock'

/** ISO 8601 UTC. */
export function idleClock({ to }: Pick<Range, 'to'>): string {
  return new Date(Number(to)).toISOString()
}
