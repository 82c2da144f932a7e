/** Batches of several sources and lanes, refined once more in the order that their steps need. */
import type { Gap } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import type { RepeatedBatch, Rerun } from '../runtime/rerun.ts'

/** A range that cannot be read any more as it was. */
export interface Unreadable {
  readonly past: PastBatch
  readonly code: string
  readonly message: string
}

export type Repeated = RepeatedBatch | { readonly unreadable: Unreadable }

/** Steps with memory see the batches in the order of the ledger, beginning with the first: then they decide as they did. */
export async function* repeatAll(
  rerun: Rerun,
  batches: readonly PastBatch[],
  signal: AbortSignal,
): AsyncGenerator<Repeated> {
  if (rerun.pipeline.stateful) yield* inOrder(rerun, batches, signal)
  else
    for (const [source, own] of Map.groupBy(batches, (batch) => batch.source))
      yield* bySource(rerun, source, own, signal)
}

async function* bySource(
  rerun: Rerun,
  source: string,
  batches: readonly PastBatch[],
  signal: AbortSignal,
): AsyncGenerator<Repeated> {
  const left = new Map(batches.map((past) => [past.token, past]))
  const lost = (lane: string, from: string, why: { readonly code: string; readonly message: string }) =>
    [...left.values()]
      .filter((past) => past.lane === lane && BigInt(past.to) > BigInt(from))
      .map((past) => ({ unreadable: { past, code: why.code, message: why.message } }))
  while (left.size > 0) {
    const before = left.size
    try {
      for await (const item of rerun.repeat(source, [...left.values()], signal)) {
        const gone = 'gap' in item ? lost(item.gap.lane, item.gap.from, item) : []
        if (!('gap' in item)) {
          left.delete(item.past.token)
          yield item
        }
        for (const { unreadable } of gone) {
          left.delete(unreadable.past.token)
          yield { unreadable }
        }
      }
    } catch (error) {
      const lane = error instanceof AdflowError && error.code === 'SOURCE_CHANGED' ? error.details?.['lane'] : undefined
      if (typeof lane !== 'string') throw error
      // What lies behind the change on this lane is no more to be believed than the change itself.
      for (const { unreadable } of lost(lane, '0', error as AdflowError)) {
        left.delete(unreadable.past.token)
        yield { unreadable }
      }
    }
    signal.throwIfAborted()
    if (left.size < before) continue
    for (const past of left.values())
      yield {
        unreadable: { past, code: 'SOURCE_MISSING', message: `${past.origin} has no range [${past.from}, ${past.to})` },
      }
    return
  }
}

async function* inOrder(rerun: Rerun, batches: readonly PastBatch[], signal: AbortSignal): AsyncGenerator<Repeated> {
  const placeOf = ({ source, lane }: PastBatch) => JSON.stringify([source, lane])
  const lanes = new Map<string, AsyncGenerator<RepeatedBatch | Gap>>()
  const counts = new Map([...Map.groupBy(batches, placeOf)].map(([place, own]) => [place, own]))
  try {
    for (const past of batches) {
      const place = placeOf(past)
      const lane = lanes.get(place) ?? rerun.repeat(past.source, counts.get(place) ?? [], signal)
      lanes.set(place, lane)
      const { value, done } = await lane.next()
      if (done === true || 'gap' in value || value.past.token !== past.token)
        throw new AdflowError(
          done !== true && 'gap' in value ? (value.code as 'SOURCE_CHANGED') : 'SOURCE_CHANGED',
          `${past.origin} cannot be read in [${past.from}, ${past.to}) as it was${done !== true && 'gap' in value ? `: ${value.message}` : ''}`,
          { hint: 'a job whose steps remember can only be repeated whole: bring the file back' },
        )
      yield value
      if (past === counts.get(place)?.at(-1)) await lane.return(undefined)
    }
  } finally {
    for (const lane of lanes.values()) await lane.return(undefined)
  }
}
