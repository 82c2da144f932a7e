/** What reading one file needs to know; filled in by the extractor's options and the runtime's limits. */
import type { Chunk, PlannedRange } from '../../core/contracts.ts'
import type { CsvDialect } from '../../records/csv.ts'
import type { ParquetFooters } from '../../records/parquet.ts'
import type { CountAhead } from './count-ahead.ts'
import type { FileFacts } from './discover.ts'
import type { FileLane } from './lanes.ts'
import type { FilePlace } from './place.ts'

export type FileFormat = 'ndjson' | 'json' | 'csv' | 'avro' | 'parquet'

interface CsvOptions extends CsvDialect {
  /** true: the first record names the columns; false: they are numbered; a list: these. */
  readonly header: boolean | readonly string[]
}

export interface ReadingOptions {
  readonly place: FilePlace
  /** undefined: by the name of the file. */
  readonly format: FileFormat | 'tsv' | undefined
  readonly compression: 'none' | 'gzip' | 'zstd' | 'auto'
  readonly csv: CsvOptions
  readonly maxRatio: number
  /** Nobody writes a file any more that was not modified for so long. */
  readonly settleMs: number
  readonly unterminated: 'settle' | 'read' | 'wait'
  readonly chunkDir: string
  /** Real paths of the folders of the source in which the engine may read. */
  readonly folders: readonly string[]
  readonly chunkBytes: number
  /** Up to so many bytes a source that can be read in place is one chunk, not counted yet; asked when one comes up. */
  readonly wholeBytes: (() => number) | undefined
  /** Counts that were begun before the run was open. */
  readonly ahead: CountAhead | undefined
  readonly maxRecordBytes: number
  /** See ReadContext. */
  readonly integers: readonly string[]
  /** See ReadContext. */
  readonly keepLines: boolean
  readonly signal: AbortSignal
  /** See SourceWatch. */
  readonly ended?: ((lane: string) => void) | undefined
  readonly footers: ParquetFooters
  /** For the marks: see Found. */
  readonly floor: string | undefined
}

export interface LaneTask extends FileLane {
  /** Ascending. */
  readonly planned: readonly PlannedRange[]
  /** Stop exactly there. */
  readonly until?: number
}

/** A file up to so many chunks long is one chunk, read where it is and counted before. */
const IN_PLACE_CHUNKS = 1.5

export function isLargerThanChunks(bytes: number, chunkBytes: number): boolean {
  return bytes > chunkBytes * IN_PLACE_CHUNKS
}

/** Compressed files too: writers append members and frames, and a cut between two of them looks like the end. */
export function isSettled(
  { unterminated, settleMs }: Pick<ReadingOptions, 'unterminated' | 'settleMs'>,
  { modifiedMs }: FileFacts,
): boolean {
  if (unterminated === 'read') return true
  if (unterminated === 'wait') return false
  return Date.now() - modifiedMs >= settleMs
}

/** One stretch of a lane, before it has a name and a mark. */
export interface CutChunk
  extends Pick<Chunk, 'file' | 'format' | 'records' | 'refused' | 'bytes' | 'digest' | 'locate' | 'raw'> {
  readonly to: number
  /** Gives up `file`: deletes it where it is not the source itself. */
  discard(): Promise<void>
  readonly stored?: NonNullable<Chunk['stored']>
  readonly spans?: NonNullable<Chunk['spans']>
  readonly verify?: NonNullable<Chunk['verify']>
  readonly integers?: Chunk['integers']
  readonly counted?: NonNullable<Chunk['counted']>
  /** Lines of the chunk, where they are known only when it has been counted. */
  readonly lines?: () => number | undefined
}
