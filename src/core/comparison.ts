/**
 * The optional part of a loader's contract by which its store can be compared and healed. Each side computes its digests itself;
 * what comes back is SQL over the engine, so that a store elsewhere may put its few answers into a table of the session.
 */
import type { EngineConnection } from './contracts.ts'

/** How a row becomes a 64-bit number. `engine`: hash() of the embedded engine, fast, the same within one process. `md5`: the lower
 *  64 bits of md5 over the canonical text of docs/reconcile.md, which other stores compute too. */
export type RowDigest = 'engine' | 'md5'

export type Bucketing =
  /** By a time column: microseconds since the epoch, rounded down to `widthUs`; rows without a time have a bucket of their own. */
  | { readonly by: 'time'; readonly column: string; readonly widthUs: number }
  /** By the row's id: `id % count`. */
  | { readonly by: 'key'; readonly count: number }

/** What both sides of a comparison are asked alike. */
export interface CompareScope {
  readonly digest: RowDigest
  /** Compared columns, each in the type in which it is compared. */
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  /** Columns by which a row is found again; all of them where nothing tells rows apart. */
  readonly key: readonly string[]
  /** Integer or decimal columns that are summed per bucket. */
  readonly sums: readonly string[]
  readonly bucket: Bucketing
  /** Only rows whose time lies in [from, to), microseconds since the epoch. */
  readonly range?: { readonly column: string; readonly from?: number; readonly to?: number }
  /** Only rows of these buckets: a store that can find them without reading all rows does so. */
  readonly buckets?: readonly bigint[]
  /** Table of the engine with a column `batch`: numbers (core/token.ts) of batches whose rows are left out. */
  readonly without?: string
}

/** One side. Each method answers with a SELECT that is valid on `engine` until the next question. */
export interface ComparedSide {
  /** `bucket, rows, digest, sum_0, sum_1 …` per bucket; `digest` is the SUM of the rows' digests, never an xor. */
  buckets(scope: CompareScope): Promise<string>
  /** `bucket, part, rows, digest`, of the buckets in the table `within`, each cut into so many parts by id. */
  parts(scope: CompareScope, within: string, parts: number): Promise<string>
  /** `bucket, id, content, batch` per row, of the pairs `bucket, part` in the table `within`. */
  entries(scope: CompareScope, within: string, parts: number): Promise<string>
  /** `__bucket, __id, __content, __batch` and the compared columns, of the rows whose `id` is in the table `ids`. */
  rows(scope: CompareScope, ids: string): Promise<string>
}

/** Single rows that are put right. */
export interface Mending {
  readonly job: string
  readonly source: string
  /** Of this heal: a store that has it refuses the repetition. */
  readonly token: string
  readonly clock: string
  readonly scope: CompareScope
  /** Table of the compared columns and `__batch`, the number of the batch that each row belongs to. */
  readonly insert: string
  /** Table `id, content, batch, n`: so many rows of each leave the store. */
  readonly remove: string
}

export interface Mended {
  readonly inserted: number
  readonly removed: number
  /** The store had this heal already, and did nothing. */
  readonly repeated: boolean
}

export interface Comparison {
  readonly write: 'append' | 'merge' | 'replace'
  /** Columns that the store itself takes for the identity of a row. */
  readonly key?: readonly string[]
  /** Best first. */
  readonly digests: readonly RowDigest[]
  /** Looks whether the target is there and what columns it has; changes nothing. `batches`: it knows the batch of each row.
   *  @throws AdflowError STORE_UNAVAILABLE where the target is gone */
  open(context: {
    readonly engine: EngineConnection
    /** As the job makes them. */
    readonly columns: readonly { readonly name: string; readonly type: string }[]
  }): Promise<OpenComparison>
  /** Puts single rows right, all in one step of the store or none. A store without it is healed by whole batches, with restore().
   *  @throws AdflowError STORE_MISMATCH where it holds other
   *  rows by now; then nothing was changed. */
  mend?(mending: Mending, context: { readonly engine: EngineConnection }): Promise<Mended>
}

export interface OpenComparison {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly batches: boolean
  readonly side: ComparedSide
  /** What is wrong with the target and does not stand in its rows: files that are gone … */
  readonly remarks: readonly string[]
}
