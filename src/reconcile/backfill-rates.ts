/** How fast the job has been, by its ledger: for estimates. */
import type { Session } from '../engine/session.ts'

export interface Rates {
  readonly recordsPerByte: number
  /** Of the last runs, from start to end; undefined: none has ended. */
  readonly bytesPerSecond: number | undefined
}

export async function ratesOf(session: Session): Promise<Rates> {
  const [row] = await session.rows(`
    WITH done AS (SELECT run, epoch_ms(ended_at) - epoch_ms(started_at) AS ms FROM runs WHERE ended_at IS NOT NULL AND batches > 0
      ORDER BY started_at DESC LIMIT 10),
    own AS (SELECT b.run, sum(b.bytes) AS bytes FROM batches b GROUP BY b.run)
    SELECT (SELECT coalesce(sum("read") / nullif(sum(bytes), 0), 0) FROM batches)::DOUBLE AS density,
      (SELECT 1000 * sum(bytes) / nullif(sum(ms), 0) FROM done JOIN own USING (run))::DOUBLE AS speed`)
  const speed = row?.['speed']
  return {
    recordsPerByte: Number(row?.['density'] ?? 0),
    bytesPerSecond: typeof speed === 'number' && speed > 0 ? speed : undefined,
  }
}
