/** Hands a batch to every store: to the spool of those that do not take it. */
import { AdflowError } from '../core/errors.ts'
import { tokenOf } from '../core/token.ts'
import type { StoreOutcome } from '../lineage/events.ts'
import type { Batch, BatchesOptions } from './batch.ts'
import { isDataError } from './chain.ts'
import { isMadeAlone, madeOf } from './made.ts'
import { MAIN } from './pipeline.ts'
import type { Streamed } from './refine.ts'
import type { Delivery, Store } from './store.ts'

/**
 * All stores at the same time: none waits for what another takes. One attempt first, then the pauses. Rejects when every store is through
 * with the batch, so that nothing reads its rows any more.
 */
export async function deliver(
  batch: Batch,
  refined: Streamed,
  options: BatchesOptions,
  ensureGoing: () => void,
  /** Called before a store first sees the batch. */
  offered: () => void,
): Promise<Record<string, StoreOutcome>> {
  const { stores, phases } = options
  const outcomes = new Map<string, StoreOutcome>()
  const book = (store: Store, delivery: Delivery, outcome: StoreOutcome) => {
    outcomes.set(store.id, booked(store, delivery, outcome))
    batch.storeTurns.get(store.id)?.done()
  }
  const later: (() => Promise<void>)[] = []
  const give = async (store: Store) => {
    await batch.storeTurns.get(store.id)?.ready
    ensureGoing()
    const delivery = deliveryFor(batch, refined, store, options)
    offered()
    if (store.down !== undefined) return book(store, delivery, await store.owe(delivery, batch.session))
    const outcome = await phases.measure(`store ${store.id}`, () => store.attempt(delivery, batch.session))
    // Before a crash the batch was looked at, and the store has fewer rows of it than it has records: look again.
    if (refined.direct && !(outcome instanceof AdflowError) && outcome.rows !== batch.chunk.records)
      throw new AdflowError(
        batch.chunk.counted === undefined ? 'ENGINE_FAILED' : 'UNACCOUNTED',
        `${store.id} has ${outcome.rows} rows of ${batch.chunk.records} records`,
      )
    if (!(outcome instanceof AdflowError)) return book(store, delivery, outcome)
    if (refined.streamed && isDataError(outcome)) throw outcome
    later.push(async () => {
      ensureGoing()
      book(store, delivery, await store.persist(delivery, batch.session, outcome))
    })
  }
  const alone = stores.filter(({ loader }) => loader.local === true)
  for (const store of alone) await give(store)
  await settled(stores.filter((store) => !alone.includes(store)).map(give))
  await settled(later.map((work) => work()))
  return Object.fromEntries(stores.flatMap(({ id }) => (outcomes.has(id) ? [[id, outcomes.get(id)]] : []))) as Record<
    string,
    StoreOutcome
  >
}

async function settled(work: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((one) => one.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

function booked({ input }: Store, { token }: Delivery, outcome: StoreOutcome): StoreOutcome {
  return input === MAIN ? outcome : { ...outcome, token }
}

function deliveryFor(
  batch: Batch,
  refined: Streamed,
  store: Store,
  { job, saver, workshop }: BatchesOptions,
): Delivery {
  const { source, chunk, plan, token } = batch
  const output = refined.outputs.get(store.input)
  if (output === undefined) throw new AdflowError('UNEXPECTED', `there is no output ${store.input} for ${store.id}`)
  const parts = { job: job.name, source: source.config.id, range: chunk.range, epoch: saver.state.epoch }
  return {
    job: job.name,
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
    ...(output.rows === 0 ? { empty: true } : {}),
    ...(isMadeAlone(workshop.pipeline, job) ? { made: () => madeOf(batch, job) } : {}),
    ...(refined.direct ? { expected: () => chunk.records, verify: async () => chunk.verify?.() } : {}),
    ...(chunk.counted === undefined
      ? {}
      : { counted: async (anyhow = !refined.direct) => chunk.counted?.(anyhow) ?? true }),
    ...(refined.encoded === undefined ? {} : { encoded: refined.encoded }),
  }
}
