/** The books of one stage of a pipe. */
import { ERROR_CODES, type ErrorCode, EXIT } from '../core/errors.ts'
import type { BatchCounts } from '../lineage/events.ts'
import type { GapSummary } from './summary.ts'

export interface StageSummary {
  readonly schema_version: 1
  readonly stage: 'extract' | 'validate' | 'transform' | 'load'
  readonly job: string
  exit: number
  seconds: number
  read: number
  /** Lines written to standard output; of load: rows handed to the loaders. */
  written: number
  quarantined: number
  quarantined_by: Record<string, number>
  filtered: number
  filtered_by: Record<string, number>
  deduplicated: number
  warned_by: Record<string, number>
  /** Of load: rows written and rows that an earlier load of the same bytes had written, by loader. */
  stores: Record<string, { loaded: number; repeated: number }>
  /** Of extract. */
  gaps: GapSummary[]
  warnings: string[]
}

export function emptyStage(stage: StageSummary['stage'], job: string): StageSummary {
  return {
    schema_version: 1,
    stage,
    job,
    exit: EXIT.done,
    seconds: 0,
    read: 0,
    written: 0,
    quarantined: 0,
    quarantined_by: {},
    filtered: 0,
    filtered_by: {},
    deduplicated: 0,
    warned_by: {},
    stores: {},
    gaps: [],
    warnings: [],
  }
}

export function addCounts(summary: StageSummary, counts: BatchCounts): void {
  summary.read += counts.read
  summary.deduplicated += counts.deduplicated
  summary.quarantined += addAll(summary.quarantined_by, counts.quarantined)
  summary.filtered += addAll(summary.filtered_by, counts.filtered)
  addAll(summary.warned_by, counts.warned)
}

/** Exit code of a gap that a source had. */
export function gapExit({ gaps }: StageSummary): number {
  const grave = gaps.find((gap) => !gap.optional)
  if (grave === undefined) return EXIT.done
  return Object.hasOwn(ERROR_CODES, grave.code) ? ERROR_CODES[grave.code as ErrorCode].exit : EXIT.rejected
}

export function addAll(into: Record<string, number>, counts: Readonly<Record<string, number>>): number {
  let total = 0
  for (const [id, count] of Object.entries(counts)) {
    into[id] = (into[id] ?? 0) + count
    total += count
  }
  return total
}
