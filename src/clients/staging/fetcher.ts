/**
 * What is left for an extractor to do whose source cannot be read again: to fetch. `stagedExtractor` makes an Extractor of it,
 * with durable bytes, edges that repeat, positions, gaps, time-outs and a limit for the disk.
 */
import type { Dataset } from '../../core/contracts.ts'
import type { SegmentFormat } from './segment.ts'

/** A part of the source that is fetched by itself. */
export interface FetchLane {
  readonly lane: string
  /** For people and lineage, never a credential: a URL without its secrets, a table. */
  readonly origin: string
}

/** Where fetched bytes go. Waits where the disk is full enough, or where the engine is behind. */
export interface PageSink {
  /** The next bytes of the page. They are on their way to the disk when it resolves; the buffer may be used again. `records`: so many lines of NDJSON,
   *  whole, none of them blank or longer than records may be. */
  write(bytes: Buffer, records?: number): Promise<void>
  /** The page is whole, and its last record ends here (a line end is added where it lacks). `cursor`: from where the source gives what comes after
   *  it, and nothing of it; opaque, without credentials. A page may be empty. */
  page(cursor: string): Promise<void>
  /** The page broke off: what was written of it is forgotten, and it may be written anew. */
  drop(): Promise<void>
  /** How the pages from here on are to be read. Default: NDJSON. */
  format(format: SegmentFormat): Promise<void>
  /** Bytes of the page that have been written. */
  readonly pageBytes: number
  /** A page of so many bytes, the next one to be ended, will end a segment too: that may wait until segments before it were read. */
  isFullBy(pageBytes: number): boolean
}

export interface FetchTask extends FetchLane {
  /** That of the last page that is durable. undefined: the source is fetched from its beginning. */
  readonly cursor: string | undefined
  readonly sink: PageSink
  /** A segment is sealed at so many bytes: a page should not be much larger, or little of it is known after a kill. */
  readonly segmentBytes: number
  readonly maxRecordBytes: number
  /** Aborted by a stop of the run and by the time-out of the source. */
  readonly signal: AbortSignal
}

export interface Fetcher {
  dataset(): Dataset
  /** What is there to be fetched now. Throws an AdflowError SOURCE_… where that cannot be known. */
  lanes(signal: AbortSignal): Promise<readonly FetchLane[]>
  /**
   * Everything after the cursor, up to now. Resolves at the end of it. Throws an AdflowError SOURCE_… where it cannot go on: pages
   * that are whole are kept, and the next run begins after them. Called once per lane and pass; several lanes at the same time.
   */
  fetch(task: FetchTask): Promise<void>
  /** The checkpoint stands at this cursor, durably: the source will not be asked for what comes before it again. */
  confirm?(lane: string, cursor: string): Promise<void>
  close?(): Promise<void>
}
