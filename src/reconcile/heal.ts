/**
 * Puts a store right. The order is: event `heal_started` in the ledger → the store, in one step of its own with the token of the
 * heal → event `heal_ended`. Killed before the store: nothing has changed. Killed after it: the next heal finds by the token that it
 * happened, and ends it in the ledger; the rows are not missing any more.
 */
import { hash } from 'node:crypto'
import type { CompareScope, Comparison } from '../core/comparison.ts'
import type { LoadBatch, Loader } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { encode } from '../engine/encode.ts'
import type { Session } from '../engine/session.ts'
import type { Ledger } from '../lineage/ledger.ts'
import { table } from './bisect.ts'
import { DIFFERENCES, type KindCounts } from './differences.ts'
import type { KnownBatch } from './known-batches.ts'
import type { SourceSide } from './source-side.ts'

const INSERT = 'reconcile_insert'
const REMOVE = 'reconcile_remove'

export type HealMode = 'missing' | 'all'

export interface HealReport {
  readonly mode: HealMode
  readonly token: string
  /** Rows put in and taken out; of stores with immutable batches, the rows of the batches that were written anew. */
  readonly inserted: number
  readonly removed: number
  /** Batches that were read again. */
  readonly batches: number
  /** Batches that `missing` could not heal, because only the whole batch can be written. */
  readonly skipped: readonly string[]
}

export interface HealOptions {
  readonly mode: HealMode
  readonly job: string
  readonly store: { readonly id: string; readonly loader: Loader; readonly comparison: Comparison }
  readonly session: Session
  readonly scope: CompareScope
  readonly found: KindCounts
  readonly batches: readonly KnownBatch[]
  /** undefined: the rows come from another store. */
  readonly source: SourceSide | undefined
  readonly ledger: Ledger
  readonly run: string
  readonly who: string
  readonly signal: AbortSignal
}

export async function heal(options: HealOptions): Promise<HealReport> {
  const { mode, job, store, session, batches, ledger, run, who, found } = options
  const kinds = mode === 'missing' ? `kind = 'missing'` : 'true'
  const rows = await session.rows(
    `SELECT DISTINCT unnest([source_batch, store_batch]) AS b FROM ${DIFFERENCES} WHERE ${kinds}`,
  )
  const numbers = new Set(rows.flatMap((row) => (row['b'] === null ? [] : [BigInt(String(row['b']))])))
  const affected = batches.filter(({ number }) => numbers.has(number))
  const skipped = store.comparison.mend !== undefined || mode === 'all' ? [] : await unhealable(session, affected)
  const token = hash('sha256', JSON.stringify(['heal', job, store.id, run]))
  const wanted = affected.filter(({ past }) => !skipped.includes(past.token))
  await ledger.append([
    {
      type: 'heal_started',
      token,
      who,
      what: mode,
      loader: store.id,
      before: found,
      batches: wanted.map(({ past }) => past.token),
    },
  ])
  const done = store.comparison.mend !== undefined ? await mend(options, token) : await republish(options, wanted)
  await ledger.append([{ type: 'heal_ended', token, who, loader: store.id, status: 'done', after: done }])
  return { mode, token, ...done, batches: wanted.length, skipped }
}

/** Heals that were cut off: the store says whether they happened. */
export async function endOpenHeals(
  open: ReadonlyMap<string, string>,
  { store, session, ledger, who }: Pick<HealOptions, 'store' | 'session' | 'ledger' | 'who'>,
): Promise<void> {
  for (const [token, loader] of open) {
    if (loader !== store.id) continue
    const landed = await store.loader.probe?.(token, { engine: session })
    const status = store.comparison.mend === undefined ? 'interrupted' : landed === undefined ? 'nothing' : 'done'
    await ledger.append([{ type: 'heal_ended', token, who, loader, status, after: { inserted: landed?.rows ?? 0 } }])
  }
}

async function mend(
  { mode, job, store, session, scope, batches }: HealOptions,
  token: string,
): Promise<{ inserted: number; removed: number }> {
  const { mend: put } = store.comparison
  if (put === undefined)
    throw new AdflowError('USAGE', `${store.id} cannot be healed: its store takes whole batches only, or none`)
  const [insert, remove] =
    mode === 'missing' ? [`kind = 'missing'`, 'false'] : [`kind IN ('missing', 'different')`, `kind <> 'missing'`]
  await table(session, INSERT, `SELECT unnest(source), source_batch AS __batch FROM ${DIFFERENCES} WHERE ${insert}`)
  await table(
    session,
    REMOVE,
    `SELECT store_id AS id, store_content AS content, store_batch AS batch, count(*)::BIGINT AS n FROM ${DIFFERENCES} WHERE ${remove} GROUP BY ALL`,
  )
  const { inserted, removed } = await put(
    {
      job,
      source: batches[0]?.past.source ?? '',
      token,
      clock: new Date().toISOString(),
      scope,
      insert: INSERT,
      remove: REMOVE,
    },
    { engine: session },
  )
  return { inserted, removed }
}

/** Batches with more than missing rows: to put these in, the others would change too. */
async function unhealable(session: Session, affected: readonly KnownBatch[]): Promise<readonly string[]> {
  const rows = await session.rows(
    `SELECT DISTINCT unnest([source_batch, store_batch]) AS b FROM ${DIFFERENCES} WHERE kind <> 'missing'`,
  )
  const mixed = new Set(rows.map((row) => String(row['b'])))
  return affected.filter(({ number }) => mixed.has(String(number))).map(({ past }) => past.token)
}

/** Batch by batch, each atomic by itself: a kill in between leaves the rest missing, and the next heal finds them. */
async function republish(
  { job, store, session, source, signal }: HealOptions,
  wanted: readonly KnownBatch[],
): Promise<{ inserted: number; removed: number }> {
  const restore = store.loader.restore?.bind(store.loader)
  if (restore === undefined || source === undefined)
    throw new AdflowError('USAGE', `${store.id} takes whole batches, and another store has only rows`, {
      hint: 'heal it from the source: leave out --store',
    })
  let inserted = 0
  await source.again(wanted, async (item, { past }) => {
    const output = item.refined.outputs.get(source.input)
    const relation = source.relation(item)
    const { lane, from, to } = past
    const batch: LoadBatch = {
      job,
      source: past.source,
      range: { lane, from, to },
      token: past.stores[store.id]?.token ?? past.token,
      digest: past.digest,
      clock: past.clock,
      columns: output?.columns ?? [],
      relation,
      engine: session,
      encode: (format, options) => encode(session, relation, format, options),
    }
    inserted += (await restore(batch, { signal, newer: [] })).rows
  })
  return { inserted, removed: 0 }
}
