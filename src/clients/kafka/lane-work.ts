/** What is left to read of a partition. */
import type { Chunk, Gap, ReadContext } from '../../core/contracts.ts'
import type { LaneSurvey } from '../../core/lane-survey.ts'
import type { PartitionTask } from './partition-lane.ts'

/** Told as bytes by a survey: brokers tell offsets, not sizes. */
const ASSUMED_RECORD_BYTES = 256

/** Positions say where to stop; lanes that they do not name are read as far as is planned. */
export function boundedBy(task: PartitionTask, until: ReadContext['until']): PartitionTask {
  if (typeof until === 'string') return task
  return { ...task, stop: BigInt(until[task.lane]?.at ?? 0) }
}

export function hasWork({ position, planned, stop, begin, start, end }: PartitionTask): boolean {
  const at = BigInt(position?.at ?? 0)
  if (planned.length > 0 || at > end) return true
  return at < stop && (at > 0n || begin <= stop || begin < start)
}

export function surveyed({ lane, position, begin, start, end, stop }: PartitionTask, place: string): LaneSurvey {
  const at = BigInt(position?.at ?? 0)
  const from = at === 0n ? begin : at
  const left = stop > from ? Number(stop - from) : 0
  const lost = from < start && left > 0
  const state = lost
    ? 'truncated'
    : at > end
      ? 'replaced'
      : left === 0 && at > 0n
        ? 'done'
        : at === 0n
          ? 'new'
          : 'continue'
  return {
    lane,
    origin: `${place}/${lane}`,
    at: String(at),
    end: String(stop),
    bytesLeft: left * ASSUMED_RECORD_BYTES,
    state,
  }
}

/** Says so when the partition was read to its end, and nothing of it was missing. */
export async function* toItsEnd(
  lane: string,
  items: AsyncIterable<Chunk | Gap>,
  { signal, ended }: { readonly signal: AbortSignal; readonly ended: (lane: string) => void },
): AsyncGenerator<Chunk | Gap> {
  let whole = true
  for await (const item of items) {
    if ('gap' in item) whole = false
    yield item
  }
  if (whole && !signal.aborted) ended(lane)
}
