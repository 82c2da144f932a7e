/** What a step is given when it is compiled, and what it gives back. Types only. */
import type { Column, Dataset, Relation } from './contracts.ts'
import type { DiagnoseEnv, Diagnosis } from './diagnosis.ts'
import type { StepLineage } from './step-lineage.ts'

/** A SQL expression of a job file, with its place in the file, so that an engine error names file:line:column. */
export interface Expression {
  readonly sql: string
  /** JSON pointer-like path into the job file: ['transform', 0, 'derive', 'spend']. */
  readonly path: readonly (string | number)[]
}

/** What compile() may ask of the engine: types, column references. Works on empty tables; reads no data. */
export interface Analysis {
  /** Types the expression over the relation's columns; throws AdflowError at the expression's place. Aggregates and
   *  functions that do not repeat (random, nextval …) are refused; so are sub-queries. */
  row(expression: Expression, input: Relation): Promise<Typed>
  /** Same for an aggregate expression. */
  aggregate(expression: Expression, input: Relation): Promise<Typed>
  /** An aggregate expression in parts that can be kept in the place of rows; undefined where it cannot be merged. Its parts are called by `nameOf`. */
  fold(expression: Expression, input: Relation, nameOf: (part: number) => string): Promise<Fold | undefined>
  /** Types a whole SELECT over the relation under the name `input` (and named tables). */
  select(statement: Expression, input: Relation): Promise<{ readonly columns: readonly Column[] }>
}

/** Rows of a group are put together by the parts that are values; what is known of each is a row, and such rows can be put together again. */
export interface Fold {
  readonly parts: readonly {
    /** `value`: it tells rows apart. `measure`: an aggregate over those that it does not. */
    readonly kind: 'value' | 'measure'
    /** SQL over rows of the input. */
    readonly make: string
    readonly type: string
    /** SQL of the aggregate over kept columns of this name. Of measures it may be kept, too. */
    merge(column: string): string
  }[]
  /** SQL over the merged parts. */
  readonly finish: string
}

/** Engine type and lineage of an expression. */
export type Typed = Omit<Column, 'name'>

/** One step of the chain, compiled. */
export interface CompiledStep {
  readonly output: Relation
  /** `row`: every output row keeps the ROW of its input row. `set`: rows are new (aggregate, sql). */
  readonly kind: 'row' | 'set'
  /** Row expressions that may fail at run time; the runtime isolates the rows on which they do. `sql` as the user wrote it:
   *  use it as `(sql\n)`, it may end in a comment. Evaluated over the relation `over` (with ROW), which never fails itself;
   *  without it over the step's input. */
  readonly expressions: readonly { readonly field: string; readonly sql: string; readonly over?: string }[]
  /** Rows that leave the chain here: a SELECT of their ROW. Exactly the rows of the input that are not in the output. */
  readonly drops?: Drops
  /** Reference tables whose key must not repeat: a repeated key would double rows. Checked when they are loaded;
   *  NULL in a key never matches and may repeat. */
  readonly references?: readonly { readonly table: string; readonly key: readonly string[] }[]
  /** Of a set-wise step: column of the output → SQL over a row of the input. Input rows that are equal in all of them make up one
   *  row of the output. */
  readonly groups?: readonly { readonly name: string; readonly sql: string }[]
  /** Columns of the output in which personal data is hidden from here on. */
  readonly hides?: readonly string[]
  readonly lineage?: StepLineage
  /** Outputs beside it, which are read by their name alone: what the step sets aside. Their rows are new, as those of a set-wise step. */
  readonly branches?: readonly Branch[]
  /** Columns that tell the rows of the output apart. */
  readonly key?: readonly string[]
  /** Engine work around each batch (dedupe marks, reference tables …). */
  readonly state?: StepState
}

/** The lineage of its columns is that of the step's output. */
export interface Branch {
  readonly name: string
  readonly relation: Relation
  /** Where the job file names it. */
  readonly path: readonly (string | number)[]
}

export type Drops =
  | { readonly as: 'filtered' | 'deduplicated'; readonly sql: string }
  /** To quarantine, under this field and with this reason. */
  | { readonly as: 'quarantined'; readonly sql: string; readonly field: string; readonly message: string }

/** Tables of the job's state file that a step keeps. Statements run in the runtime's transaction. */
export interface StepState {
  /** Idempotent DDL; `state.` is the schema of the state file. */
  readonly tables: readonly string[]
  /** Statements that mark the batch, run in one transaction before output and drops are evaluated; the step's input stands
   *  in the temp table `inputTable` (SQL name). `$seq` is the batch's number here, in the output and in the drops (see
   *  engine/sequence.ts): unlike that of any other batch, without order, and the same with the same rows whenever the batch is
   *  repeated, so that it finds its own marks; `$lane`, in these statements only, is text that tells its lane. Batches pass one after the other. */
  mark(inputTable: string): readonly string[]
  /** Statements that take out or put together what no batch needs as it is any more. They run behind the marks of the first batch of a run, and of
   *  every so many after it: what a batch gives must not depend on whether they have run. */
  readonly sweep?: readonly string[]
  /** What waits for time to pass: where nothing comes any more, a batch without a record is given to the step. */
  readonly idle?: {
    /** Milliseconds of silence. */
    readonly afterMs: number
    /** SELECT of one TIMESTAMP: by which clock the batch must be for something to come out. NULL: nothing waits. */
    readonly due: string
  }
  /** Estimated bytes of state per row, for lint. */
  readonly bytesPerRow: number
  /** false: nothing is ever deleted; lint warns. */
  readonly bounded: boolean
  /** How far in event time a row may lie behind before it is deleted, where it is. */
  readonly keptMs?: number
}

export interface StepEnv {
  /** Step id, unique in the job. */
  readonly id: string
  /** Path of the step's options in the job file. */
  readonly path: readonly (string | number)[]
  readonly analysis: Analysis
  /** Register a secret for use in SQL; returns the SQL that reads it (a BLOB). The value never appears in SQL text. */
  secret(name: string, value: Uint8Array): string
  /** Register a reference table, loaded before the first batch, and again every so often where `refresh` says so; returns its
   *  SQL name and columns. A batch sees one version of it from beginning to end, and the same one when it is repeated. */
  reference(
    name: string,
    source: ReferenceSource,
    refresh?: ReferenceRefresh,
  ): Promise<{ readonly table: string; readonly columns: readonly Column[] }>
}

export type ReferenceSource = ReferenceFile | ReferenceQuery

export interface ReferenceFile {
  readonly kind: 'file'
  /** Relative to the folder of the job file. */
  readonly file: string
  /** Default: by the name of the file. */
  readonly format?: ReferenceFormat | undefined
  /** Column → engine type. Default: what the engine finds in the file. */
  readonly columns?: Readonly<Record<string, string>> | undefined
}

export interface ReferenceQuery {
  readonly kind: 'query'
  readonly dataset: Dataset
  /** Column → engine type: nobody is asked before the run. */
  readonly columns: Readonly<Record<string, string>>
  /** Writes the rows to a file as NDJSON. `baseDir`: folder of the job file. @throws AdflowError SOURCE_… */
  fetch(to: string, baseDir: string, signal: AbortSignal): Promise<void>
  /** For `adflow doctor`. */
  diagnose(env: DiagnoseEnv): Diagnosis
}

export type ReferenceFormat = 'csv' | 'ndjson' | 'parquet'

export interface ReferenceRefresh {
  readonly everyMs: number
  /** No batch is planned with data that were last read longer ago. */
  readonly maxAgeMs: number | undefined
}
