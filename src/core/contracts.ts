/**
 * The contracts between the runtime and its components. Types only: everything here is erased at run time.
 * Words are those of docs/architecture.md: lane, position, range, chunk, batch, token, step, loader, store.
 */
import type { Logger } from 'pino'
import type { Comparison } from './comparison.ts'
import type { LaneSurvey } from './lane-survey.ts'
import type { Shard } from './shard.ts'
import type { HostGate, SourceWatch } from './source-watch.ts'
import type { ColumnOrigin } from './step-lineage.ts'
import type {
  BatchComparison,
  ContentDigest,
  ContentsContext,
  Holding,
  StoreAudit,
  StoreContents,
} from './store-contract.ts'

/** A point in a lane: decimal digits without leading zeros. Ordered as a number (see core/positions.ts). */
export type Position = string

/** Where a lane stands. `mark` is the extractor's own evidence (fingerprint, line number …), stored with the position. */
export interface LanePosition {
  readonly at: Position
  readonly mark?: string
}

/** lane → position. */
export type Positions = Readonly<Record<string, LanePosition>>

/** Half open `[from, to)` of one lane. */
export interface Range {
  readonly lane: string
  readonly from: Position
  readonly to: Position
}

/** How the engine must read the bytes of a chunk. */
export type ChunkFormat =
  | { readonly type: 'ndjson' }
  | { readonly type: 'csv'; readonly delimiter: string; readonly quote: string; readonly header: readonly string[] }
  /** Whole Parquet file; the chunk is the rows `[fromRow, toRow)` of it. */
  | { readonly type: 'parquet'; readonly fromRow: number; readonly toRow: number }

/** Where one record of a chunk stands in its source. Byte offsets are of the decompressed source; -1 where it has none. */
export interface RecordSource {
  readonly byteFrom: number
  readonly byteTo: number
  /** 1-based line of the source where the record starts (Parquet: 1-based row). */
  readonly line: number
}

/** A record that the extractor itself had to refuse (too large, cut off …). It counts as read and as quarantined. */
export interface RefusedRecord extends RecordSource {
  /** Error code of docs/errors.md. */
  readonly reason: string
  readonly message: string
  /** Original bytes, or the first part of them when they exceed the record limit. */
  readonly raw: Buffer
}

/** The raw bytes of one range, as a file that the engine can read. The same range yields the same bytes. */
export interface Chunk {
  readonly range: Range
  /** The mark of the lane at `range.to`. */
  readonly mark?: string
  /** Path of the source, for people and lineage (never a credential). */
  readonly origin: string
  /** Path of the bytes, readable by the engine: in the chunk folder, or in place under access(). CSV: without header line and BOM. */
  readonly file: string
  readonly format: ChunkFormat
  /** Records in `file`, counted by the extractor independently of the engine. Blank lines do not count. */
  readonly records: number
  readonly refused: readonly RefusedRecord[]
  /** Bytes of `file`. */
  readonly bytes: number
  /** `sha256:<hex>` or `crc32:<hex>` of the bytes in `file`; the same range with another digest is an error, not a retry. */
  readonly digest: string
  /** Source places of records, by 0-based ordinal in `file`, ascending. Reads `file` again: call before release(). */
  locate(ordinals: readonly number[]): Promise<RecordSource[]>
  /** Original bytes of records, by 0-based ordinal in `file`, ascending. Call before release(). */
  raw(ordinals: readonly number[]): Promise<Buffer[]>
  /** Records as they stand in `file`, where raw() may give other bytes (a pretty-printed one is one line in `file`). As raw(). */
  stored?(ordinals: readonly number[]): Promise<Buffer[]>
  /** Byte ranges of records in `file`, without their line end, where the extractor knows them already. */
  spans?(ordinals: readonly number[]): Promise<readonly { readonly start: number; readonly end: number }[]>
  /** Of ReadContext.integers: keys of which every value in `file`, wherever one stands, is an integer in up to 19 plain digits, or null. */
  readonly integers?: readonly string[] | undefined
  /** Set where a source is handed over whole (ReadContext.wholeBytes), to be counted while the engine reads it. Until this
   *  resolves `records` and `digest` throw, `mark` is good for a plan only, and `integers` is a guess. false: the source must be cut after all; where
   *  only the guess was wrong, it resolves to true for `anyhow`. */
  counted?(anyhow?: boolean): Promise<boolean>
  /** Called after the engine has read `file` and before anything is loaded: throws SOURCE_CHANGED where the bytes of a file
   *  that is read in place may have changed meanwhile. */
  verify?(): Promise<void>
  /** The runtime has acknowledged the chunk, or gives it up: delete `file` where the extractor made it. */
  release(): Promise<void>
}

/** A part of a source that could not be read. The lane's position does not pass it; a later run tries again. */
export interface Gap {
  readonly gap: { readonly lane: string; readonly from: Position; readonly to?: Position }
  readonly origin: string
  readonly code: string
  readonly message: string
}

/** A planned range that must be cut exactly again after a crash. */
export interface PlannedRange extends Range {
  readonly mark?: string
}

export interface ReadContext {
  /** Where each lane stands, from the checkpoint. Unknown lanes start at their beginning. */
  readonly from: Positions
  /** Ranges that were planned before a crash and not yet acknowledged: cut first, exactly so, each lane in order. */
  readonly planned: readonly PlannedRange[]
  readonly until: 'now' | 'forever' | Positions
  /** Only sources whose modification time lies in [from, to); milliseconds since the epoch. */
  readonly modified?: { readonly from?: number; readonly to?: number }
  /** Target size of a chunk. */
  readonly chunkBytes: number
  /** Set with `forever`, in milliseconds: how long a source that waits for more may keep what it has, to make a larger chunk of it. */
  readonly flushMs?: number
  /** Set with `forever`: resolves when a chunk would be taken up at once. Who cuts it then can put all into it that has come meanwhile. */
  room?(): Promise<void>
  /** A source of so many bytes that can be read where it is may be one chunk, uncounted; asked when it comes up. */
  wholeBytes?(): number
  /** Hard limit of one record. */
  readonly maxRecordBytes: number
  /** Lines of NDJSON that cannot be records are wanted in the chunk, where they stand, and not as `refused`. */
  readonly keepLines?: boolean
  /** Keys of NDJSON whose values the engine can read in less time where it is known what they are (Chunk.integers). */
  readonly integers?: readonly string[] | undefined
  /** Lanes that may be read at the same time. */
  readonly parallel: number
  readonly signal: AbortSignal
  /** What the run wants to hear of the source beside its chunks. Absent where nobody does. */
  readonly watch?: SourceWatch
}

/** What a source may do before the run that reads it is open: see Extractor.ahead(). */
export interface AheadContext
  extends Pick<ReadContext, 'from' | 'planned' | 'chunkBytes' | 'maxRecordBytes' | 'integers'> {
  readonly wholeBytes: number
}

export interface Extractor {
  /** false: a range cannot be read again once it is loaded. Its bytes are staged durably before anything else
   *  (clients/staging), and kept until no checkpoint lies before them. */
  readonly replayable: boolean
  dataset(): Dataset
  /** Chunks of a lane come in order; lanes may interleave. Ends when `until` is reached. Memory is bounded by
   *  parallel × chunkBytes: the next chunk of a lane is cut only when the consumer asks for more. */
  read(context: ReadContext): AsyncIterable<Chunk | Gap>
  /** The run is being opened and will read soon, most likely so. What takes long, changes nothing and may turn out to be for nothing can begin;
   *  read() or close() ends it. */
  ahead?(context: AheadContext): void
  /** What is there to read, without reading it: for `plan`, progress and `status`. With `modified` only lanes whose source was modified then. */
  survey(from: Positions, modified?: ReadContext['modified']): Promise<readonly LaneSurvey[]>
  /** Called only after the checkpoint with these positions is durable. `fallback`: those of the one before, from where what cannot be had again must be kept. */
  commit?(positions: Positions, fallback?: Positions): Promise<void>
  /** Ends its connections at once, whatever waits for an answer: the next read() opens others. */
  renew?(): void
  close(): Promise<void>
}

/** Identity of a data set, by the OpenLineage naming rules. */
export interface Dataset {
  readonly namespace: string
  readonly name: string
}

/** A column of a relation. `type` is the engine's type name; `from` is its lineage: source columns it is made of. */
export interface Column {
  readonly name: string
  readonly type: string
  readonly from: readonly string[]
  /** How the step made it of what it reads; without it, it is one of these columns as it came. */
  readonly how?: ColumnOrigin
}

/** SQL under construction: a complete SELECT whose first column is ROW (see engine/relation.ts), and its columns. */
export interface Relation {
  readonly sql: string
  readonly columns: readonly Column[]
}

/** What a second write of one token does. Tested by the conformance suite, never only claimed. */
export type ReplayGuarantee = 'token' | 'key' | 'transaction' | 'duplicates'

/** What a loader needs of the engine before its session is locked down. */
export interface EngineAccess {
  /** Folders in which the engine may read and write. */
  readonly folders?: readonly string[]
  /** DuckDB files to attach under a name. */
  readonly attach?: readonly { readonly file: string; readonly as: string }[]
}

export type EncodedFormat = 'parquet' | 'csv' | 'ndjson'

/** What is common to all writes of a batch. */
export interface BatchInfo {
  readonly job: string
  readonly source: string
  readonly range: Range
  /** sha256 hex of job | source | lane | from | to | epoch (and the output's name, where it is not the main one). */
  readonly token: string
  /** Digest of the chunk behind the batch. */
  readonly digest: string
  /** ISO 8601 UTC: the batch's own clock, fixed when the range was planned. */
  readonly clock: string
}

export interface EngineConnection {
  run(sql: string): Promise<void>
  /** Rows as plain values: bigint for integers beyond 2^53 and below, strings for decimals and timestamps. */
  rows(sql: string): Promise<Record<string, unknown>[]>
}

export interface EncodeOptions {
  /** Full target path, inside a folder of EngineAccess. */
  readonly file: string
  readonly compression?: string
  /** The file is read once and goes: Parquet of version 2, with layout and encodings that take less time to write and to read. */
  readonly quick?: boolean
  /** SELECT over `batch` to write instead of all columns; `{batch}` stands for the relation. */
  readonly select?: string
}

/** A batch on its way into one store. Encoding happens on demand. */
export interface LoadBatch extends BatchInfo {
  readonly columns: readonly Column[]
  /** SQL of a table or sub-query with exactly `columns`; valid on `engine` until write() settles. */
  readonly relation: string
  /** The relation is known to give no rows: the batch is entered, as any other, and nothing need be asked of the engine. */
  readonly empty?: true
  /** Digest of all that the rows follow from, once encode() has resolved: two attempts with the same one give the same rows. Absent where that
   *  is not known without reading them. */
  readonly made?: () => string
  readonly engine: EngineConnection
  /** Writes the batch (or a selection of it) as one file; returns rows written. `bytes`: the values of one column of BLOB, one
   *  after the other. `lines`: the selection is one column of text, and each value a line (or several) as it is. */
  encode(format: EncodedFormat | 'bytes' | 'lines', options: EncodeOptions): Promise<number>
}

/** What a store has durably taken. */
export interface Receipt {
  /** Rows of this batch that the store holds because of this or an earlier write of the token. */
  readonly rows: number
  /** true: the token was there already and nothing was written. */
  readonly repeated: boolean
  /** Places written, for lineage: a table name, file paths. */
  readonly outputs: readonly string[]
  /** Where the store can tell: what it held of the batch when it had been written. */
  readonly content?: ContentDigest
}

/** A batch that a store remembers; with its own clock where the store keeps it: a range that is planned again gets it back. */
export interface StoreRecord extends Omit<BatchInfo, 'job' | 'clock'>, Partial<Pick<BatchInfo, 'clock'>> {
  readonly rows: number
  /** The record is of so many batches: the store knows that it has all of `range`, and no longer where one of them ended. `token` is
   *  what one batch of the whole range would have, and `digest` is empty. */
  readonly folded?: number
}

/** From where on batches of a lane are asked for; undefined: of that lane none. */
export type Since = (source: string, lane: string) => Position | undefined

export interface HistoryContext {
  readonly engine: EngineConnection
  readonly since?: Since
}

export interface Loader {
  readonly replay: ReplayGuarantee
  /** `lane`: batches must arrive in order. `none`: any order, several at once. */
  readonly order: 'lane' | 'none'
  /** write() takes all rows through one encode() before anything of the batch becomes visible, and reads its `digest` only after
   *  that, or when the token is there. Clean batches are then streamed: encode() rejects when a row is missing. `chunks`: what
   *  is encoded has still a way to go, on which the next batch is encoded. `sources`: it is as good as there, so that a batch
   *  may be a whole file. */
  readonly streams?: 'chunks' | 'sources' | undefined
  /** write() is work of the engine alone, in transactions: other stores of the batch do not share its connection meanwhile. */
  readonly local?: true
  dataset(): Dataset
  /** Once per run, before the first write: connect, create or evolve the target. Throws retryable AdflowError when down. */
  open(context: { readonly engine: EngineConnection; readonly columns: readonly Column[] }): Promise<void>
  /** Resolved = durable. Rejected = nothing of the batch is visible, or unknown (then probe decides). */
  write(batch: LoadBatch, context: { readonly signal: AbortSignal }): Promise<Receipt>
  /** After the last batch of a run. `complete`: every batch of the run was written, nothing is owed. */
  finish?(context: { readonly engine: EngineConnection; readonly complete: boolean }): Promise<void>
  /** By which the store can be compared and healed. */
  readonly comparison?: Comparison
  /** After an unknown outcome: did the token land? */
  probe?(token: string, context: { readonly engine: EngineConnection }): Promise<Receipt | undefined>
  /** Every batch of the job that the store remembers: for recover and for noticing stale checkpoints. `since`: those that begin before
   *  what it says of their lane are not asked for; all that is `folded` is. A store MAY give more. */
  history?(job: string, context: HistoryContext): Promise<readonly StoreRecord[]>
  /** What the store has now of each of these tokens, also where rows were deleted by hand. Changes nothing, and needs no open().
   *  undefined: batches of the past have no place in it. */
  holdings?(
    tokens: readonly string[],
    context: { readonly engine: EngineConnection },
  ): Promise<ReadonlyMap<string, Holding> | undefined>
  /** Writes a batch of the past anew: what is left of it goes and all of it comes, in one step. Rows that batches in `newer`
   *  have put in the place of its rows stay. Written again it changes nothing. */
  restore?(
    batch: LoadBatch,
    context: { readonly signal: AbortSignal; readonly newer: readonly string[] },
  ): Promise<Receipt>
  /** What differs between the batch and what the store has of it; what later batches have replaced is no difference. Changes
   *  nothing; unfinished files go to `scratch`. */
  compare?(batch: LoadBatch, context: { readonly scratch: string }): Promise<BatchComparison>
  /** `columns`: those of the output that the loader reads, by the job of today. Reads only, and needs no open().
   *  Throws STORE_UNAVAILABLE where there is nothing. */
  contents?(context: ContentsContext): Promise<StoreContents>
  /** Everything that the store has, compared with nothing. Reads all of it. undefined: its rows do not know their batches.
   *  Throws STORE_UNAVAILABLE where there is nothing. */
  audit?(context: ContentsContext): Promise<StoreAudit | undefined>
  close(): Promise<void>
}

/** What every component gets at creation. */
export interface ComponentEnv {
  readonly id: string
  readonly job: string
  /** The part of the job that this process does; others do the others at the same time. Absent: all of it. */
  readonly shard?: Shard
  /** Folder of the job file: relative paths in options are relative to it. */
  readonly baseDir: string
  readonly log: Logger
}

export interface ExtractorEnv extends ComponentEnv {
  /** Shared by the sources of a run. Absent: the source is alone. */
  readonly hosts?: HostGate
  /** Folder for chunk files; engine-readable, emptied at start. */
  readonly chunkDir: string
  /** Folder for fetched bytes that must outlive a run; engine-readable, made by whoever needs it, emptied by nobody else. */
  readonly stageDir: string
}

/** What a loader gets at creation. */
export interface LoaderEnv extends ComponentEnv {
  /** Folder for files that a loader makes of a batch on its way; the engine may write there; emptied at start. */
  readonly workDir: string
  /** Name of the output that it gets. Absent: `main`. */
  readonly input?: string
}
