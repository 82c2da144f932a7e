/** What bench/loaders.ts asks of a store. */
import type { Contender } from '../measure.ts'

/** Columns of the sample, with their types in a job file. */
export const COLUMNS = {
  event_id: 'bigint',
  event_type: 'varchar',
  event_time: 'timestamp',
  received_at: 'timestamp',
  campaign_id: 'bigint',
  crid: 'varchar',
  impid: 'varchar',
  publisher: 'varchar',
  user_id: 'varchar',
  ip: 'varchar',
  os: 'varchar',
  country: 'varchar',
  city: 'varchar',
  cost_micros: 'bigint',
} as const

export interface BenchFile {
  readonly path: string
  readonly rows: number
  /** Where a tool may keep files of its own; removed at the end. */
  readonly folder: string
  /** Words of a command that runs a job from this file into a store, under a name. */
  run(name: string, load: Readonly<Record<string, unknown>>): readonly string[]
}

export interface RunningStore {
  /** Entry of `load`: not under the name of a tool's own job. */
  readonly load: Readonly<Record<string, unknown>>
  readonly tools: readonly Omit<Contender, 'prepare'>[]
  /** Before each run: nothing of the one before is left, and what the tool needs is there. */
  empty(): void | Promise<void>
  end(): Promise<void>
}

export interface BenchStore {
  /** Of the file that both read. */
  readonly format: 'csv' | 'ndjson' | 'parquet'
  /** Of the file, where it is not that of most stores. */
  readonly rows?: number
  /** Of the job, beside memory and threads. */
  readonly resources?: Readonly<Record<string, unknown>>
  start(file: BenchFile): Promise<RunningStore>
}
