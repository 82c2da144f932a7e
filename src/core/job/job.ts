/** A job file after reading: every value checked, every default filled in, sizes in bytes, durations in milliseconds. */
import type { StatePlace } from '../state-place.ts'
import type { Expression } from '../step-contract.ts'
import type { Failure, Used } from './interpolate.ts'
import type { Path } from './places.ts'
import type { JobSchedule } from './schedule.ts'
import type { JobStream } from './stream.ts'

export interface Job {
  /** Absolute path of the job file. */
  readonly file: string
  /** Folder of the job file: relative paths in options are relative to it. */
  readonly baseDir: string
  readonly name: string
  readonly description: string | undefined
  /** sha256 hex of the content with variables resolved and secrets not: comments and layout do not change it. */
  readonly digest: string
  /** The file as it was read, `${…}` not replaced. */
  readonly text: string
  /** What stood behind its `${…}`. */
  readonly used: Used
  /** What had no value. Never anything in a job that was read to be run. */
  readonly unresolved: readonly Failure[]
  /** Highest priority first, then in the order of the file. */
  readonly extract: readonly JobExtractor[]
  readonly columns: readonly JobColumn[]
  /** What becomes of fields that no column names. */
  readonly unknown: 'evolve' | 'discard_value' | 'discard_row' | 'freeze'
  /** In the order format → completeness → consistency → business, then of the file. */
  readonly rowRules: readonly RowRule[]
  readonly batchRules: readonly BatchRule[]
  readonly budgets: readonly Budget[]
  readonly steps: readonly JobStep[]
  readonly load: readonly JobLoader[]
  readonly distribute: readonly JobConsumer[]
  readonly resources: Resources
  readonly spool: { readonly maxBytes: number; readonly whenFull: 'block' | 'fail' }
  readonly reconcile: JobReconcile
  readonly retry: { readonly attempts: number; readonly initialMs: number; readonly maxMs: number }
  readonly lineage: {
    readonly namespace: string
    /** undefined: the environment may name one. */
    readonly transport: { readonly type: string; readonly options: unknown } | undefined
    readonly timeoutMs: number
  }
  /** undefined: the daemon runs it when somebody asks for it. */
  readonly schedule: JobSchedule | undefined
  readonly stream: JobStream
  /** Where its state is kept, if not in files on this machine. */
  readonly state: StatePlace | undefined
  readonly tests: readonly JobTest[]
  /** file:line:column of the value at a path; of what is nearest around it, where there is none. */
  at(path: Path): string
  /** The source line of the value with a caret under it. */
  excerpt(path: Path): string
}

interface JobComponent {
  readonly id: string
  readonly type: string
  readonly optional: boolean
  /** Parsed by the component's own schema. */
  readonly options: unknown
  readonly path: Path
}

export interface JobExtractor extends JobComponent {
  readonly priority: number
  /** Longest silence; undefined: that of its kind. */
  readonly giveUpAfterMs: number | undefined
  /** Longest that a run reads it; undefined: to its end. */
  readonly timeLimitMs: number | undefined
}

export interface JobLoader extends JobComponent {
  /** Id of the step whose output is loaded; undefined or `main`: the end of the chain. */
  readonly input: string | undefined
}

export interface JobConsumer extends JobComponent {
  /** Id of the step whose output is distributed; `main`: the end of the chain. */
  readonly input: string
  readonly where: Expression | undefined
  /** In the order of the file; undefined: all columns. */
  readonly select: readonly { readonly name: string; readonly expression: Expression }[] | undefined
  readonly key: Expression | undefined
  readonly concurrency: number
  readonly retry: { readonly initialMs: number; readonly maxMs: number; readonly deadlineMs: number }
  readonly breaker: { readonly failures: number; readonly pauseMs: number }
  readonly patienceMs: number
}

export interface JobStep {
  readonly id: string
  /** false: the id was made up from the verb. */
  readonly named: boolean
  readonly verb: string
  /** Names of the outputs that the step has beside its own. */
  readonly branches: readonly string[]
  readonly options: unknown
  /** Path of the options: ['transform', 0, 'derive']. */
  readonly path: Path
}

export interface JobColumn {
  readonly name: string
  readonly type: string
  readonly required: boolean
  /** Field of the record; a dotted path reaches into maps. */
  readonly from: string
  readonly format: string | undefined
  readonly description: string | undefined
  readonly personal: boolean
  readonly path: Path
}

export interface RowRule {
  readonly id: string
  readonly check: Expression
  readonly onFail: 'quarantine' | 'drop' | 'warn' | 'fail'
  readonly stage: 'format' | 'completeness' | 'consistency' | 'business'
  readonly description: string | undefined
  readonly path: Path
}

export type BatchRule = {
  readonly id: string
  readonly onFail: 'fail' | 'warn'
  readonly description: string | undefined
  readonly path: Path
} & (
  | { readonly kind: 'batch'; readonly check: Expression }
  | { readonly kind: 'rows'; readonly min: number | undefined; readonly max: number | undefined }
  | { readonly kind: 'null_ratio'; readonly column: string; readonly max: number }
  | { readonly kind: 'unique'; readonly columns: readonly string[] }
  | { readonly kind: 'freshness'; readonly column: string; readonly withinMs: number }
)

export interface Budget {
  /** Largest part of the records that may be rejected, 0 to 1. */
  readonly ratio: number
  /** The whole run, or a sliding time in milliseconds. */
  readonly per: 'run' | number
  readonly onExhausted: 'fail' | 'warn'
  /** Does not apply before so many records were read. */
  readonly minRows: number
  readonly path: Path
}

interface Resources {
  readonly memoryLimitBytes: number
  readonly threads: number
  readonly chunkBytes: number
  readonly wholeFileBytes: number
  readonly sources: number
  readonly parallel: number
  readonly inFlight: number
  readonly maxRecordBytes: number
  readonly tempDirectory: string | undefined
}

/** Defaults of `adflow reconcile`. */
export interface JobReconcile {
  /** undefined: not by itself. */
  readonly everyMs: number | undefined
  readonly by: 'time' | 'key' | undefined
  readonly column: string | undefined
  readonly windowMs: number
  readonly settleMs: number
  readonly key: readonly string[] | undefined
  readonly compare: readonly ('count' | 'digest')[]
  readonly sum: readonly string[]
  readonly heal: 'none' | 'missing' | 'all'
}

export type TestRow = Readonly<Record<string, unknown>>

export interface JobTest {
  readonly name: string
  /** ISO 8601 UTC. */
  readonly clock: string | undefined
  readonly given: readonly TestInput[]
  /** Rows by id of a loader or a step. */
  readonly expect: readonly { readonly output: string; readonly rows: readonly TestRow[]; readonly path: Path }[]
  /** undefined: the test says nothing about the quarantine. */
  readonly quarantine: readonly TestRow[] | undefined
  readonly path: Path
}

export type TestInput = { readonly source: string; readonly path: Path } & (
  | { readonly rows: readonly TestRow[] }
  | { readonly lines: readonly string[] }
)
