/** What the state directory holds beside the ledger: quarantine and spool; and holes between the ranges of a lane. */
import { existsSync } from 'node:fs'
import type { Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import { Spool } from '../runtime/spool.ts'
import type { StateDir } from '../runtime/state-dir.ts'
import type { BatchBooks } from './books.ts'
import type { Finding } from './certificate.ts'
import { holds, placeOf } from './check-store.ts'

/** Records in quarantine against the counts of the books. */
export async function checkQuarantine(
  batches: readonly PastBatch[],
  books: ReadonlyMap<string, BatchBooks>,
  session: Session,
): Promise<Finding[]> {
  const rows = await session.rows('SELECT token, count(*) AS n FROM quarantine GROUP BY 1')
  const kept = new Map(rows.map((row) => [String(row['token']), Number(row['n'])]))
  return batches.flatMap((batch): Finding[] => {
    const expected = books.get(batch.token)?.quarantined ?? 0
    const found = kept.get(batch.token) ?? 0
    if (found === expected || expected === 0) return []
    const off = Math.abs(expected - found)
    const message =
      found === 0
        ? `the file of the quarantine with ${expected} records of the batch is gone`
        : `the quarantine has ${found} records of the batch, and should have ${expected}`
    const what = found === 0 ? 'file' : found < expected ? 'missing' : 'extra'
    return [{ stage: 'quarantine', what, ...placeOf(batch), store: null, expected, found, rows: off, message }]
  })
}

/** Batches that are owed must lie in the spool, whole. */
export async function checkSpool(
  batches: readonly PastBatch[],
  stores: readonly { readonly id: string }[],
  state: StateDir,
  session: Session,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { id } of stores) {
    const owed = batches.filter((batch) => batch.stores[id] !== undefined && !holds(batch, id))
    const spool = new Spool(state.spoolOf(id))
    if (owed.length > 0 && existsSync(spool.folder)) await spool.open()
    const waiting = new Map(spool.owed.map((batch) => [batch.batch, batch]))
    for (const batch of owed) {
      const expected = batch.stores[id]?.rows ?? 0
      const there = waiting.get(batch.token)
      const found = there === undefined ? 0 : await rowsIn(spool.file(there), session)
      if (found === expected && there !== undefined) continue
      const message =
        there === undefined
          ? `${id} is owed the batch, and the spool does not have it`
          : `the file of the batch that ${id} is owed is gone or cut off: ${spool.file(there)}`
      const rows = Math.max(Math.abs(expected - found), 1)
      findings.push({ stage: 'spool', what: 'missing', ...placeOf(batch), store: id, expected, found, rows, message })
    }
  }
  return findings
}

/** 0 where the file cannot be read: that it is cut off is what this looks for. */
async function rowsIn(file: string, session: Session): Promise<number> {
  if (!existsSync(file)) return 0
  return session.value(`SELECT count(*) FROM read_parquet(${literal(file)})`).then(Number, () => 0)
}

/** Ranges of a lane that no batch covers, though a later one was loaded. */
export function lostRanges(all: readonly PastBatch[], window: readonly PastBatch[]): Finding[] {
  const inWindow = new Set(window)
  const findings: Finding[] = []
  for (const own of Map.groupBy(all, ({ source, lane }) => JSON.stringify([source, lane])).values()) {
    const sorted = [...own].sort((a, b) => (BigInt(a.from) < BigInt(b.from) ? -1 : 1))
    let end = BigInt(sorted[0]?.from ?? 0)
    for (const batch of sorted) {
      if (BigInt(batch.from) > end && inWindow.has(batch))
        findings.push({
          stage: 'source',
          what: 'range',
          source: batch.source,
          lane: batch.lane,
          from: String(end),
          to: batch.from,
          store: null,
          batch: null,
          expected: null,
          found: null,
          rows: 1,
          message: `no batch covers [${end}, ${batch.from}) of ${batch.lane}: the range was never loaded`,
        })
      if (BigInt(batch.to) > end) end = BigInt(batch.to)
    }
  }
  return findings
}
