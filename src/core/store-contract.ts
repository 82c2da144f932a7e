/** What a store can tell of itself: its rows, what it holds of a batch, everything that is there. Types only. */
import type { Column, EngineConnection } from './contracts.ts'

/** What a store holds of a batch, read back from it. */
export interface ContentDigest {
  /** Rows that are there: under `merge` without those that a later row of the batch replaced. */
  readonly rows: number
  /** Names what computes `value`; another name is not comparable. */
  readonly algorithm: string
  readonly value: string
  /** Rows of other batches that this one replaced: number of their batch (core/token.ts; empty where they had none) → how many,
   *  and their part of that batch's value. */
  readonly replaced?: Readonly<Record<string, { readonly rows: number; readonly value: string }>>
}

/** What a store has now, looked at row by row or file by file. */
export interface StoreAudit {
  /** Its own record of batches, of all jobs, by token. */
  readonly entries: ReadonlyMap<string, { readonly job: string; readonly rows: number }>
  /** What is there, by number of batch as text; empty for rows without one. */
  readonly found: ReadonlyMap<string, FoundContent>
  /** As in ContentDigest: what `value` of `found` is computed by. */
  readonly algorithm: string
  /** Each complete run puts its rows in the place of all rows of earlier ones. */
  readonly replaces: boolean
}

export interface FoundContent {
  readonly rows: number
  readonly value: string
  /** What is wrong with it by itself: a file that is gone or cut off. */
  readonly faults: readonly string[]
}

/** How the rows of a store are read back: for trace, impact and proof. SQL for an engine that has what access() asks for. */
export interface StoreContents {
  /** Columns of the data, with the types as which they are read. */
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  /** SELECT of all rows: these columns, and what `batch` and `order` need. */
  readonly select: string
  /** Expression over a row: the number of its batch (core/token.ts), NULL where it has none. Absent: rows do not know their batch. */
  readonly batch?: string
  /** Expression over a row, BIGINT: the order of equal rows of one batch. */
  readonly order: string
  /** A row replaces an earlier one with the same values here; NULL equals NULL. */
  readonly key?: readonly string[]
}

export interface ContentsContext {
  readonly engine: EngineConnection
  readonly job: string
  readonly columns: readonly Column[]
}

/** What a store has now of a batch that it was given once. */
export interface Holding {
  /** A write of the token would be refused. */
  readonly remembered: boolean
  /** Rows that are there; undefined where the store cannot tell them from those of other batches. */
  readonly rows: number | undefined
}

/** SQL, valid until write() of the batch would settle. */
export interface BatchComparison {
  /** SELECT of one boolean, by digests: true where all rows are the same, so that nobody need look for those that differ. */
  readonly same: string
  /** SELECTs of the rows that only the batch has, and that only the store has of it. */
  readonly missing: string
  readonly extra: string
}
