/** What bench/extractors.ts asks of a source. */
import type { Contender } from '../measure.ts'

export interface BenchRows {
  /** NDJSON, as many lines as `rows`; columns as in stores/store.ts. */
  readonly path: string
  readonly rows: number
  /** Where a source may keep files of its own; removed at the end. */
  readonly folder: string
}

export interface RunningSource {
  /** Entry of `extract`. */
  readonly extract: Readonly<Record<string, unknown>>
  /** What the plain client of the system does with the same rows: all are read, none is parsed. */
  readonly clients: readonly Omit<Contender, 'prepare'>[]
  end(): Promise<void>
}

export interface BenchSource {
  /** Starts the system, and gives it the rows of the file. */
  start(rows: BenchRows): Promise<RunningSource>
}
