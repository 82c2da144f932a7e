/** Which batches of the ledger a store does not have any more, wholly or in part. */
import { existsSync } from 'node:fs'
import type { Loader } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobLoader } from '../core/job/job.ts'
import { tokenOf } from '../core/token.ts'
import type { Session } from '../engine/session.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import type { Pipeline } from '../runtime/pipeline.ts'
import { laneOf, overlap } from './lane-ranges.ts'

const ASKED_AT_ONCE = 5000

export interface AskedStore {
  readonly config: JobLoader
  readonly loader: Loader
}

/** Of ranges that were loaded anew under a higher epoch only the last loading. */
export function lastLoadings(batches: readonly PastBatch[]): readonly PastBatch[] {
  const lanes = Map.groupBy(batches, laneOf)
  return batches.filter((batch) => {
    const own = lanes.get(laneOf(batch)) ?? []
    return !own.some((other) => BigInt(other.epoch) > BigInt(batch.epoch) && overlap(batch, other))
  })
}

/** Token of a batch in a store. */
export function tokenIn({ stores, source, lane, from, to, epoch, token }: PastBatch, job: string, config: JobLoader) {
  const booked = stores[config.id]?.token
  if (booked !== undefined) return booked
  const { input = 'main' } = config
  return input === 'main' ? token : tokenOf({ job, source, range: { lane, from, to }, epoch, output: input })
}

/** Rows that the store must have of the batch; undefined where only the store itself could tell. */
export function rowsIn(batch: PastBatch, config: JobLoader, pipeline: Pipeline): number | undefined {
  const booked = batch.stores[config.id]?.rows
  if (booked !== undefined) return booked
  return pipeline.outputs.get(config.input ?? 'main')?.kind === 'row' ? batch.rows : undefined
}

/** Tokens (of the ledger) of the batches that are not wholly there; undefined: the store has no place for batches of the past. */
export async function missingIn(
  { config, loader }: AskedStore,
  batches: readonly PastBatch[],
  { job, session, pipeline, owed }: { job: Job; session: Session; pipeline: Pipeline; owed: ReadonlySet<string> },
): Promise<ReadonlySet<string> | undefined> {
  if (loader.holdings === undefined || loader.restore === undefined) return undefined
  const missing = new Set<string>()
  for (let at = 0; at < batches.length; at += ASKED_AT_ONCE) {
    const slice = batches.slice(at, at + ASKED_AT_ONCE)
    const tokens = slice.map((batch) => tokenIn(batch, job.name, config))
    const found = await loader.holdings(tokens, { engine: session })
    if (found === undefined) return undefined
    for (const [index, batch] of slice.entries()) {
      const held = found.get(tokens[index] ?? '')
      if (owed.has(tokens[index] ?? '')) continue
      const expected = rowsIn(batch, config, pipeline)
      const whole = held?.rows === undefined || expected === undefined || held.rows === expected
      if (held?.remembered !== true || !whole) missing.add(batch.token)
    }
  }
  return missing
}

/** A store that had batches and whose file or folder is gone is no store without batches. @throws AdflowError STORE_UNAVAILABLE */
export function requireThere(config: JobLoader, places: readonly string[], batches: readonly PastBatch[]): void {
  const gone = places.find((place) => !existsSync(place))
  if (gone === undefined || !batches.some(({ stores }) => (stores[config.id]?.rows ?? 0) > 0)) return
  throw new AdflowError('STORE_UNAVAILABLE', `store ${config.id} is gone: there is no ${gone}`, {
    hint: 'mount or restore it; --recreate loads everything into a new one',
  })
}
