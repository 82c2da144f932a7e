/** What the sources of a job still owe: the open gaps of its ledger. Reads only. */
import type { Job } from '../core/job/job.ts'
import type { Browser } from './browse.ts'

export interface OpenGapStatus {
  readonly source: string
  readonly lane: string
  readonly from: string
  readonly to: string | null
  readonly code: string
  readonly message: string
  /** ISO 8601 UTC: when it was booked first, and last. */
  readonly since: string
  readonly booked_at: string
  /** Runs, or attempts, that found it. */
  readonly times: number
  /** It fails no run. null: the job has no such source any more, so that no run repays it. */
  readonly optional: boolean | null
}

export async function openGapList({ extract }: Job, { session }: Browser): Promise<OpenGapStatus[]> {
  const rows = await session.rows(
    `SELECT source, lane, range_from::VARCHAR AS "from", range_to::VARCHAR AS "to", code, message, times::INTEGER AS times,
      strftime(since, '%Y-%m-%dT%H:%M:%S.%gZ') AS since, strftime(booked_at, '%Y-%m-%dT%H:%M:%S.%gZ') AS booked_at
      FROM gaps WHERE open ORDER BY since, source, lane`,
  )
  const text = (value: unknown) => String(value)
  return rows.map((row) => ({
    source: text(row['source']),
    lane: text(row['lane']),
    from: text(row['from']),
    to: row['to'] === null ? null : text(row['to']),
    code: text(row['code']),
    message: text(row['message']),
    since: text(row['since']),
    booked_at: text(row['booked_at']),
    times: Number(row['times']),
    optional: extract.find(({ id }) => id === row['source'])?.optional ?? null,
  }))
}
