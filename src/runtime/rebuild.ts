/** Positions of a job as its stores know them. */
import type { Range, StoreRecord } from '../core/contracts.ts'
import { IDLE_SOURCE, idleClock } from '../core/idle.ts'
import { comparePositions, START } from '../core/positions.ts'
import type { LaneCheckpoint, PlannedBatch } from './checkpoint-slot.ts'

/** A range of a source between others that stores have. */
export interface Hole extends Range {
  readonly source: string
}

export interface Rebuilt {
  readonly sources: Readonly<Record<string, Readonly<Record<string, LaneCheckpoint>>>>
  readonly planned: readonly PlannedBatch[]
  /** Ranges that no store has, though some have what follows: of batches that were under way at once a later one may have been
   *  stored first. They are planned too. */
  readonly holes: readonly Hole[]
}

/**
 * Where every store has a range, the position passes it; behind the first range that is not everywhere all is planned again,
 * exactly. `histories`: of each store what it has and what it is owed. `clock`: of batches that no store keeps the clock of.
 */
export function rebuild(known: readonly (readonly StoreRecord[])[], clock: string): Rebuilt {
  const histories = cutAtEdges(known)
  const sources: Record<string, Record<string, LaneCheckpoint>> = {}
  const planned: PlannedBatch[] = []
  const holes: Hole[] = []
  const held = histories.map((history) => new Set(history.map(keyOf)))
  const all = histories.flat()
  // Those of stores that know the batch and its clock come last, and stay.
  const ordered = [
    ...all.filter(({ folded }) => folded !== undefined),
    ...all.filter(({ folded }) => folded === undefined),
  ]
  const distinct = new Map(ordered.map((record) => [keyOf(record), record]))
  for (const records of Map.groupBy(distinct.values(), laneOf).values()) {
    records.sort((a, b) => comparePositions(a.range.from, b.range.from))
    let at = START
    let passed = true
    for (const record of records) {
      const { source, range } = record
      const plan = (from: string, to: string) =>
        planned.push({
          source,
          lane: range.lane,
          from,
          to,
          sequence: String(planned.length),
          clock: source === IDLE_SOURCE ? idleClock({ to }) : (record.clock ?? clock),
        })
      if (comparePositions(range.from, at) > 0) {
        holes.push({ source, lane: range.lane, from: at, to: range.from })
        plan(at, range.from)
        passed = false
      }
      passed = passed && held.every((store) => store.has(keyOf(record)))
      if (passed) sources[source] = { ...sources[source], [range.lane]: { at: range.to } }
      else plan(range.from, range.to)
      at = range.to
    }
  }
  return { sources, planned, holes }
}

/** What a store knows as a whole only is cut where batches of other stores end: so what they all have can be told. */
function cutAtEdges(histories: readonly (readonly StoreRecord[])[]): readonly (readonly StoreRecord[])[] {
  if (!histories.flat().some(({ folded }) => folded !== undefined)) return histories
  const edges = new Map<string, Set<string>>()
  for (const record of histories.flat()) {
    const own = edges.get(laneOf(record)) ?? new Set()
    edges.set(laneOf(record), own.add(record.range.from).add(record.range.to))
  }
  const sorted = new Map([...edges].map(([lane, own]) => [lane, [...own].sort(comparePositions)]))
  return histories.map((history) =>
    history.flatMap((record) => {
      if (record.folded === undefined) return [record]
      const { lane, from, to } = record.range
      const inside = (sorted.get(laneOf(record)) ?? []).filter(
        (edge) => comparePositions(edge, from) > 0 && comparePositions(edge, to) < 0,
      )
      return [from, ...inside].map((at, index) => ({ ...record, range: { lane, from: at, to: inside[index] ?? to } }))
    }),
  )
}

/** Of a source that cannot be read again: ranges of an earlier epoch end where a lane was put back to, for what came then has other edges. */
export function notSuperseded<Record extends StoreRecord>(
  records: readonly Record[],
  epochOf: (record: Record) => bigint,
): readonly Record[] {
  return [...Map.groupBy(records, laneOf).values()].flatMap((lane) => {
    const epochs = [...Map.groupBy(lane, epochOf)].sort(([a], [b]) => (a > b ? -1 : 1))
    let begin: string | undefined
    return epochs.flatMap(([, own]) => {
      const kept = own.filter(({ range }) => begin === undefined || comparePositions(range.to, begin) <= 0)
      for (const { range } of kept)
        if (begin === undefined || comparePositions(range.from, begin) < 0) begin = range.from
      return kept
    })
  })
}

function laneOf({ source, range }: StoreRecord): string {
  return JSON.stringify([source, range.lane])
}

function keyOf({ source, range }: StoreRecord): string {
  return JSON.stringify([source, range.lane, range.from, range.to])
}
