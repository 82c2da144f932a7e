/** The books of batches as the ledger has them, and their sums per source, lane and store. */
import type { Session } from '../engine/session.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import type { BookLine, Finding } from './certificate.ts'
import { holds, type StoreVerdict } from './check-store.ts'

export interface BatchBooks {
  readonly read: number
  readonly passed: number
  readonly quarantined: number
  readonly filtered: number
  readonly deduplicated: number
  readonly unaccounted: number
  /** By count and by sum of hashes. */
  readonly closes: boolean
}

/** By token. */
export async function batchBooks(session: Session): Promise<ReadonlyMap<string, BatchBooks>> {
  const rows = await session.rows(
    `SELECT token, "read", quarantined, filtered, deduplicated, unaccounted,
      sums."read" = sums.quarantined + sums.filtered + sums.deduplicated + sums."out" AND unaccounted = 0 AS closes FROM batches`,
  )
  return new Map(
    rows.map((row) => {
      const count = (name: string) => Number(row[name])
      const [read, quarantined, filtered] = [count('read'), count('quarantined'), count('filtered')]
      const [deduplicated, unaccounted] = [count('deduplicated'), count('unaccounted')]
      const passed = read - quarantined - filtered - deduplicated - unaccounted
      return [
        String(row['token']),
        { read, passed, quarantined, filtered, deduplicated, unaccounted, closes: row['closes'] === true },
      ]
    }),
  )
}

export function bookLines(
  batches: readonly PastBatch[],
  books: ReadonlyMap<string, BatchBooks>,
  verdicts: ReadonlyMap<string, StoreVerdict>,
  findings: readonly Finding[],
): BookLine[] {
  const groups = Map.groupBy(batches, ({ source, lane }) => JSON.stringify([source, lane]))
  return [...groups.values()].flatMap((own) =>
    [...verdicts].flatMap(([store, { replaced }]) => {
      const given = own.filter(({ stores }) => stores[store] !== undefined)
      const [first] = given
      if (first === undefined) return []
      const { source, lane } = first
      const sum = (of: (batch: PastBatch, its: BatchBooks | undefined) => number) =>
        given.reduce((total, batch) => total + of(batch, books.get(batch.token)), 0)
      const mine = (finding: Finding) =>
        finding.source === source && finding.lane === lane && (finding.store === null || finding.store === store)
      return [
        {
          source,
          lane,
          store,
          batches: given.length,
          read: sum((_, its) => its?.read ?? 0),
          loaded: sum((batch, its) => (holds(batch, store) ? (its?.passed ?? 0) : 0)),
          quarantined: sum((_, its) => its?.quarantined ?? 0),
          filtered: sum((_, its) => its?.filtered ?? 0),
          deduplicated: sum((_, its) => its?.deduplicated ?? 0),
          owed: sum((batch, its) => (holds(batch, store) ? 0 : (its?.passed ?? 0))),
          replaced: sum(({ token }) => replaced.get(token) ?? 0),
          rows: sum((batch) => (holds(batch, store) ? (batch.stores[store]?.rows ?? 0) : 0)),
          unaccounted: findings.filter(mine).reduce((total, { rows }) => total + rows, 0),
        },
      ]
    }),
  )
}
