/** Hands a batch to every store: to the spool of those that do not take it. */
import { AdflowError } from '../core/errors.ts'
import { tokenOf } from '../core/token.ts'
import type { StoreOutcome } from '../lineage/events.ts'
import type { Batch, BatchesOptions } from './batch.ts'
import { isDataError } from './chain.ts'
import { MAIN } from './pipeline.ts'
import type { Streamed } from './refine.ts'
import type { Delivery, Store } from './store.ts'

/** One attempt at every store first, then the pauses: a store in trouble does not hold up the others. */
export async function deliver(
  batch: Batch,
  refined: Streamed,
  { job, saver, stores }: BatchesOptions,
  ensureGoing: () => void,
  /** Called before a store first sees the batch. */
  offered: () => void,
): Promise<Record<string, StoreOutcome>> {
  const outcomes: Record<string, StoreOutcome> = {}
  const later: { store: Store; delivery: Delivery; error: AdflowError }[] = []
  for (const store of stores) {
    await batch.storeTurns.get(store.id)?.ready
    ensureGoing()
    const delivery = deliveryFor(batch, refined, store, job.name, saver.state.epoch)
    offered()
    if (store.down !== undefined) {
      outcomes[store.id] = booked(store, delivery, await store.owe(delivery, batch.session))
      continue
    }
    const outcome = await store.attempt(delivery, batch.session)
    // Before a crash the batch was looked at, and the store has fewer rows of it than it has records: look again.
    if (refined.direct && !(outcome instanceof AdflowError) && outcome.rows !== batch.chunk.records)
      throw new AdflowError(
        batch.chunk.counted === undefined ? 'ENGINE_FAILED' : 'UNACCOUNTED',
        `${store.id} has ${outcome.rows} rows of ${batch.chunk.records} records`,
      )
    if (!(outcome instanceof AdflowError)) outcomes[store.id] = booked(store, delivery, outcome)
    else if (refined.streamed && isDataError(outcome)) throw outcome
    else later.push({ store, delivery, error: outcome })
  }
  for (const { store, delivery, error } of later) {
    ensureGoing()
    outcomes[store.id] = booked(store, delivery, await store.persist(delivery, batch.session, error))
  }
  return outcomes
}

function booked({ input }: Store, { token }: Delivery, outcome: StoreOutcome): StoreOutcome {
  return input === MAIN ? outcome : { ...outcome, token }
}

function deliveryFor(batch: Batch, refined: Streamed, store: Store, job: string, epoch: string): Delivery {
  const { source, chunk, plan, token } = batch
  const output = refined.outputs.get(store.input)
  if (output === undefined) throw new AdflowError('UNEXPECTED', `there is no output ${store.input} for ${store.id}`)
  const parts = { job, source: source.config.id, range: chunk.range, epoch }
  return {
    job,
    source: source.config.id,
    range: chunk.range,
    clock: plan.clock,
    get digest() {
      return chunk.digest
    },
    token: store.input === MAIN ? token : tokenOf({ ...parts, output: store.input }),
    sequence: plan.sequence,
    origin: chunk.origin,
    batch: token,
    columns: output.columns,
    relation: output.relation,
    ...(refined.direct ? { expected: () => chunk.records, verify: async () => chunk.verify?.() } : {}),
    ...(chunk.counted === undefined ? {} : { counted: chunk.counted }),
  }
}
