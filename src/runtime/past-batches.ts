/** What the ledger knows of a batch that is needed to cut and refine it once more. */
import type { PlannedRange, Position } from '../core/contracts.ts'
import type { Session } from '../engine/session.ts'
import type { BatchCounts, BatchSums } from '../lineage/events.ts'

export interface PastBatch extends PlannedRange {
  readonly token: string
  readonly source: string
  /** The extractor's evidence at `from`, where the ledger has it; `mark` is that at `to`. */
  readonly markFrom?: string
  readonly origin: string
  /** Digest of the chunk. */
  readonly digest: string
  /** ISO 8601 UTC. */
  readonly clock: string
  /** Reference data that were read again while the run went on → the version that the batch saw. */
  readonly references?: Readonly<Record<string, string>>
  readonly sequence: string
  /** The run that closed it last, and what that run was made of. */
  readonly run: string
  readonly pin: string | undefined
  readonly epoch: string
  /** ISO 8601 UTC: when its books were closed; and when stores that were owed it had it, by id. */
  readonly closedAt: string
  readonly paidAt: Readonly<Record<string, string>>
  /** Rows at the end of the row-wise chain. */
  readonly rows: number
  /** Records read, and bytes of the chunk. */
  readonly read: number
  readonly bytes: number
  readonly counts: BatchCounts
  readonly sums: BatchSums
  /** Store → what it has of the batch. */
  readonly stores: Readonly<Record<string, PastOutcome>>
}

export interface PastOutcome {
  readonly rows: number
  readonly status: string
  readonly outputs: readonly string[]
  /** Token of the batch in this store. */
  readonly token: string
}

const ISO = '%Y-%m-%dT%H:%M:%S.%gZ'
const COLUMNS = `token, source, lane, range_from::VARCHAR AS range_from, range_to::VARCHAR AS range_to, mark, mark_from, origin, digest,
  clock, to_json("references")::VARCHAR AS "references", sequence::VARCHAR AS sequence, run, pin, epoch::VARCHAR AS epoch, "out"::BIGINT AS "out", "read", bytes, to_json(counts)::VARCHAR AS counts, to_json(sums)::VARCHAR AS sums, to_json(stores)::VARCHAR AS stores,
  strftime(closed_at, '${ISO}') AS closed_at, to_json(coalesce(paid, MAP {}))::VARCHAR AS paid`

/** The batches for which the condition holds, over the columns of the view `batches`, of `runs`, and `mark_from`; in the order in
 *  which they were planned. Needs the views of lineage/ledger-sql.ts. */
export async function pastBatches(session: Session, where = 'true'): Promise<readonly PastBatch[]> {
  const before = '(SELECT DISTINCT ON (source, lane, range_to) source, lane, range_to, mark FROM batches)'
  const paid = `(SELECT token, map_from_entries(list((loader, strftime("time", '${ISO}')) ORDER BY seq)) AS paid FROM (FROM ledger WHERE type = 'store_paid' QUALIFY row_number() OVER (PARTITION BY token, loader ORDER BY seq) = 1) GROUP BY token)`
  const rows = await session.rows(
    `SELECT ${COLUMNS} FROM (SELECT b.*, p.mark AS mark_from, r.pin, r.epoch, s.paid FROM batches b
       LEFT JOIN ${before} p ON p.source = b.source AND p.lane = b.lane AND p.range_to = b.range_from
       LEFT JOIN runs r ON r.run = b.run LEFT JOIN ${paid} s ON s.token = b.token) AS batches WHERE ${where} ORDER BY batches.sequence, token`,
  )
  return rows.map(pastBatch)
}

function pastBatch(row: Readonly<Record<string, unknown>>): PastBatch {
  const text = (name: string) => String(row[name])
  const optional = (name: string) => (row[name] === null || row[name] === undefined ? undefined : String(row[name]))
  const [mark, markFrom, references] = [optional('mark'), optional('mark_from'), optional('references')]
  const token = text('token')
  return {
    token,
    source: text('source'),
    lane: text('lane'),
    from: text('range_from'),
    to: text('range_to'),
    ...(mark === undefined ? {} : { mark }),
    ...(markFrom === undefined ? {} : { markFrom }),
    origin: text('origin'),
    digest: text('digest'),
    clock: text('clock'),
    ...(references === undefined ? {} : { references: JSON.parse(references) as Record<string, string> }),
    sequence: text('sequence'),
    run: text('run'),
    pin: optional('pin'),
    epoch: text('epoch'),
    closedAt: text('closed_at'),
    paidAt: JSON.parse(text('paid')) as Record<string, string>,
    rows: Number(row['out']),
    read: Number(row['read']),
    bytes: Number(row['bytes']),
    counts: JSON.parse(text('counts')) as BatchCounts,
    sums: sumsOf(text('sums')),
    stores: storesOf(text('stores'), token),
  }
}

/** They are beyond what JSON.parse keeps. */
function sumsOf(json: string): BatchSums {
  return JSON.parse(json.replace(/:\s*(-?\d+)/g, ':"$1"')) as BatchSums
}

function storesOf(json: string, token: string): Record<string, PastOutcome> {
  const stores = JSON.parse(json) as Record<string, Omit<PastOutcome, 'token'> & { token: string | null; rows: number }>
  return Object.fromEntries(Object.entries(stores).map(([id, own]) => [id, { ...own, token: own.token ?? token }]))
}

/** How a lane must be entered to read these batches of it again. */
export function beginningOf(batches: readonly PastBatch[]): { readonly at: Position; readonly mark?: string } {
  const first = batches.reduce((least, batch) => (BigInt(batch.from) < BigInt(least.from) ? batch : least))
  return { at: first.from, ...(first.markFrom === undefined ? {} : { mark: first.markFrom }) }
}
