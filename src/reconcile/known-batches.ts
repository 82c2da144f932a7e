/** What of a store is compared: the batches that the ledger says it has, at the moment of asking. What comes later stays out. */
import type { Loader, StoreRecord } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { IDLE_SOURCE } from '../core/idle.ts'
import type { Job } from '../core/job/job.ts'
import { tokenNumber } from '../core/token.ts'
import type { Session } from '../engine/session.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'

/** A batch as one store has it. */
export interface KnownBatch {
  readonly past: PastBatch
  /** Its number in the store's column. */
  readonly number: bigint
  /** Place in the order in which the store took its batches. */
  readonly order: number
}

export interface KnownBatches {
  /** In the order in which they were refined. */
  readonly compared: readonly KnownBatch[]
  /** Waiting in the spool. */
  readonly owed: readonly PastBatch[]
  /** Booked before the store was in the job. */
  readonly never: readonly PastBatch[]
  /** Numbers of batches that the store has and that are not compared. */
  readonly without: readonly bigint[]
  /** So many of them the ledger does not know: a run is going on, or was cut off before it closed their books. */
  readonly later: number
}

export interface LedgerSnapshot {
  /** Of ranges that were loaded anew only the last loading. */
  readonly batches: readonly PastBatch[]
  /** All that were ever closed. */
  readonly all: readonly PastBatch[]
  /** JSON of [token, loader] of the batches that were owed and are paid. */
  readonly paid: ReadonlySet<string>
  /** Heals without an end: token → loader. */
  readonly openHeals: ReadonlyMap<string, string>
}

export async function takeSnapshot(session: Session, job: Job, path: string): Promise<LedgerSnapshot> {
  const sources = new Set([...job.extract.map(({ id }) => id), IDLE_SOURCE])
  const all = await pastBatches(session)
  const batches = lastLoadings(all.filter(({ source }) => sources.has(source)))
  if (batches.length === 0)
    throw new AdflowError(
      'STATE_MISSING',
      `there is nothing to reconcile: the ledger in ${path} knows no batch of ${job.name}`,
      {
        hint: 'the job has not run yet, or --state-dir names another folder',
      },
    )
  const paid = await session.rows(`SELECT DISTINCT token, loader FROM ledger WHERE type = 'store_paid'`)
  const open = await session.rows(
    `SELECT token, loader FROM ledger WHERE type = 'heal_started' AND token NOT IN (SELECT token FROM ledger WHERE type = 'heal_ended')`,
  )
  return {
    batches,
    all,
    paid: new Set(paid.map((row) => JSON.stringify([row['token'], row['loader']]))),
    openHeals: new Map(open.map((row) => [String(row['token']), String(row['loader'])])),
  }
}

/** A lane that was put back with --reload has ranges under several epochs, cut otherwise perhaps: the last one counts. */
function lastLoadings(batches: readonly PastBatch[]): readonly PastBatch[] {
  const kept = new Set<PastBatch>()
  for (const own of Map.groupBy(batches, ({ source, lane }) => JSON.stringify([source, lane])).values()) {
    const epochs = Map.groupBy(own, ({ epoch }) => BigInt(epoch))
    const newest = [...epochs.keys()].sort((a, b) => (a < b ? 1 : -1))
    // All but a few lanes know one epoch, and the ranges of one epoch never overlap.
    const taken: PastBatch[] = []
    for (const epoch of newest) {
      const before = [...taken]
      for (const batch of epochs.get(epoch) ?? []) if (!before.some((other) => overlap(batch, other))) taken.push(batch)
    }
    for (const batch of taken) kept.add(batch)
  }
  return batches.filter((batch) => kept.has(batch))
}

function overlap(one: PastBatch, other: PastBatch): boolean {
  return BigInt(one.from) < BigInt(other.to) && BigInt(other.from) < BigInt(one.to)
}

export async function batchesOf(
  store: { readonly id: string; readonly loader: Loader },
  { batches, all, paid }: LedgerSnapshot,
  { job, session, only }: { readonly job: string; readonly session: Session; readonly only: string | undefined },
): Promise<KnownBatches> {
  const known: readonly StoreRecord[] = (await store.loader.history?.(job, { engine: session })) ?? []
  const history = known.filter(({ folded }) => folded === undefined)
  const order = new Map(history.map(({ token }, index) => [token, index]))
  const owed: PastBatch[] = []
  const never: PastBatch[] = []
  const compared: KnownBatch[] = []
  for (const past of batches.filter(({ source }) => only === undefined || source === only)) {
    const outcome = past.stores[store.id]
    if (outcome === undefined) never.push(past)
    else if (outcome.status === 'owed' && !paid.has(JSON.stringify([past.token, store.id]))) owed.push(past)
    else
      compared.push({
        past,
        number: tokenNumber(outcome.token),
        order: order.get(outcome.token) ?? history.length + compared.length,
      })
  }
  const booked = new Map(all.map((past) => [past.stores[store.id]?.token, past]))
  const counting = new Set(batches)
  const taken = new Set(compared.map(({ number }) => number))
  // Rows of a loading that a later one of the same range has taken the place of are not left out: they stand there twice.
  const left = history.filter(({ token }) => {
    const past = booked.get(token)
    return !taken.has(tokenNumber(token)) && (past === undefined || counting.has(past))
  })
  return {
    compared,
    owed,
    never,
    without: left.map(({ token }) => tokenNumber(token)),
    later: left.filter(({ token }) => !booked.has(token)).length,
  }
}
