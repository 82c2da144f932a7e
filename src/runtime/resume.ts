/**
 * What the stores remember against what the checkpoint says. A store that is ahead (the checkpoint is an older generation,
 * or comes from a backup) must get exactly the same ranges again, for the other stores' sake; it refuses them itself.
 */
import type { LanePosition, Range, StoreRecord } from '../core/contracts.ts'
import { comparePositions, START } from '../core/positions.ts'
import type { CheckpointState, PlannedBatch } from './checkpoint-slot.ts'

/** Batches past the checkpoint that some store holds and no plan names, contiguous from where each lane stands. */
export function batchesAhead(
  state: CheckpointState,
  histories: readonly (readonly StoreRecord[])[],
): readonly Omit<PlannedBatch, 'sequence' | 'clock'>[] {
  const lanes = new Map<string, { source: string; ranges: Map<string, Range> }>()
  for (const record of histories.flat()) {
    const key = JSON.stringify([record.source, record.range.lane])
    const lane = lanes.get(key) ?? { source: record.source, ranges: new Map<string, Range>() }
    lanes.set(key, lane)
    lane.ranges.set(record.range.from, record.range)
  }
  return [...lanes.values()].flatMap(({ source, ranges }) => {
    const [{ lane } = { lane: '' }] = ranges.values()
    const planned = state.planned.filter((batch) => batch.source === source && batch.lane === lane)
    const byFrom = new Map(planned.map((batch) => [batch.from, batch]))
    const ahead: Omit<PlannedBatch, 'sequence' | 'clock'>[] = []
    let at = (state.sources[source]?.[lane] as LanePosition | undefined)?.at ?? START
    for (;;) {
      const next = byFrom.get(at) ?? ranges.get(at)
      if (next === undefined || comparePositions(next.to, at) <= 0) return ahead
      if (!byFrom.has(at)) ahead.push({ source, lane, from: next.from, to: next.to })
      at = next.to
    }
  })
}
