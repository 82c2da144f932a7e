/** Cuts chunks out of staged bytes: a whole segment is read where it is, parts of one and ranges over several are copied. */
import type { Chunk } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { ChunkFile, digestOf } from '../../records/chunk-file.ts'
import { type Cut, cutRecords } from '../../records/cut.ts'
import { Window } from '../../records/window.ts'
import { chunkPath } from '../objects/chunk-names.ts'
import { chunkRecords } from '../objects/chunk-records.ts'
import { fileFacts } from '../objects/discover.ts'
import { ownFile, type Readable, verifyInPlace } from '../objects/in-place.ts'
import { splitterOf } from './record-counter.ts'
import type { Segment } from './segment.ts'
import { stagedBytes } from './staged-bytes.ts'
import type { StagedLane, Witnessed } from './staged-lane.ts'

/** A segment up to so many chunks long is one chunk. */
const WHOLE_CHUNKS = 1.5

export interface CutterOptions {
  readonly origin: string
  readonly chunkDir: string
  readonly chunkBytes: number
  readonly maxRecordBytes: number
  readonly signal: AbortSignal
}

export type StagedCut = Pick<
  Chunk,
  'file' | 'format' | 'records' | 'refused' | 'bytes' | 'digest' | 'locate' | 'raw' | 'spans' | 'verify'
> & { readonly to: number; readonly lines: number; discard(): Promise<void> }

export class StagedCutter {
  readonly #lane: StagedLane
  readonly #options: CutterOptions
  /** Line ends of the lane before a position that was reached. */
  #known = { at: 0, lines: 0 }

  constructor(lane: StagedLane, options: CutterOptions) {
    this.#lane = lane
    this.#options = options
  }

  /** Where a chunk that begins there should end: it follows from the segment and the size of chunks alone. */
  target(from: number, until = Number.POSITIVE_INFINITY): { readonly to: number; readonly exact: boolean } {
    const segment = this.#lane.at(from)
    const end = Math.min(segment?.to ?? from, until)
    const { chunkBytes } = this.#options
    if (end - from <= chunkBytes * WHOLE_CHUNKS) return { to: end, exact: true }
    return { to: from + chunkBytes, exact: false }
  }

  /** @throws AdflowError SOURCE_CHANGED where no record ends at an exact `to`, or where not all of it is there */
  async cut(from: number, { to, exact }: { readonly to: number; readonly exact: boolean }): Promise<StagedCut> {
    const segment = this.#lane.at(from)
    if (segment === undefined || (exact && !this.#lane.covers(from, to))) throw this.#gone(from, to)
    if (!this.#isOneFormat(segment, to)) throw this.#gone(from, to)
    const whole = from === segment.from && to === segment.to
    const cut = (whole ? await this.#inPlace(segment) : undefined) ?? (await this.#copied(segment, from, to, exact))
    if (exact && cut.to !== to) {
      await cut.discard()
      throw this.#gone(from, to)
    }
    return cut
  }

  async #inPlace(segment: Segment): Promise<StagedCut | undefined> {
    const path = this.#lane.fileOf(segment)
    const witnessed = this.#lane.witnessed(segment)
    if (witnessed !== undefined) return this.#counted(segment, path, witnessed)
    const facts = await fileFacts(path)
    const file = new ChunkFile()
    const cut = await this.#records(segment, segment.from, segment.to, true, file)
    const asItIs = cut?.to === segment.to && cut.excluded.length === 0 && cut.returns.length === 0
    if (!asItIs || facts === undefined) return undefined
    const readable = { file: path, discard: async () => undefined }
    return {
      ...this.#described(segment, segment.from, cut, readable, file),
      verify: () => verifyInPlace(path, path, facts),
    }
  }

  /** Counted and summed while it was written; it must be the same file still. */
  #counted(segment: Segment, path: string, { records, facts }: Witnessed): StagedCut {
    const { from, to, lines: linesBefore, lineEnds, crc32 } = segment
    this.#known = { at: to, lines: linesBefore + lineEnds }
    const cut = { to, records, lines: lineEnds, refused: [], excluded: [], returns: [] }
    const file = { bytes: to - from, digest: digestOf(crc32) }
    const readable = { file: path, discard: async () => undefined }
    return { ...this.#described(segment, from, cut, readable, file), verify: () => verifyInPlace(path, path, facts) }
  }

  async #copied(segment: Segment, from: number, to: number, exact: boolean): Promise<StagedCut> {
    const path = chunkPath(this.#options.chunkDir, segment.format.type)
    const file = new ChunkFile(path)
    try {
      const cut = await this.#records(segment, from, to, exact, file)
      if (cut === undefined) throw this.#gone(from, to)
      await file.finish()
      return this.#described(segment, from, cut, ownFile(path), file)
    } catch (error) {
      await file.discard()
      throw error
    }
  }

  async #records(
    segment: Segment,
    from: number,
    to: number,
    exact: boolean,
    file: ChunkFile,
  ): Promise<Cut | undefined> {
    const { signal, maxRecordBytes, origin } = this.#options
    const linesBefore = await this.#linesBefore(segment, from)
    const window = new Window(stagedBytes(this.#lane, from), from, signal)
    try {
      const request = { target: to, exact, settled: true, linesBefore, maxRecordBytes, origin }
      const cut = await cutRecords(window, splitterOf(segment.format), request, file)
      if (cut !== undefined) this.#known = { at: cut.to, lines: linesBefore + cut.lines }
      return cut
    } finally {
      await window.close()
    }
  }

  /** Counted once more where the position lies inside a segment and was not reached just now. */
  async #linesBefore(segment: Segment, from: number): Promise<number> {
    if (this.#known.at === from && from > 0) return this.#known.lines
    if (from === segment.from) return segment.lines
    const cut = await this.#records(segment, segment.from, from, true, new ChunkFile())
    return segment.lines + (cut?.lines ?? 0)
  }

  #isOneFormat({ from, format }: Segment, to: number): boolean {
    return this.#lane.segments
      .filter((segment) => segment.from >= from && segment.from < to && segment.from < segment.to)
      .every((segment) => JSON.stringify(segment.format) === JSON.stringify(format))
  }

  #described(
    segment: Segment,
    from: number,
    cut: Cut,
    readable: Readable,
    file: Pick<ChunkFile, 'bytes' | 'digest'>,
  ): StagedCut {
    const { records, excluded, returns, refused, to } = cut
    const layout = { from, linesBefore: this.#known.lines - cut.lines, excluded, returns }
    return {
      to,
      lines: this.#known.lines,
      ...readable,
      format: segment.format,
      records,
      refused,
      bytes: file.bytes,
      digest: file.digest,
      ...chunkRecords(readable.file, splitterOf(segment.format), layout, () => records),
    }
  }

  #gone(from: number, to: number): AdflowError {
    return goneError(this.#lane.lane, from, to)
  }
}

/** The bytes were fetched once, and are nowhere any more. */
export function goneError(lane: string, from: number, to: number): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `bytes [${from}, ${to}) of ${lane} are not staged any more, and the source cannot give the same bytes again`,
    {
      hint: 'staged bytes are removed when every store has them, or is owed them; `adflow state rewind --reload` fetches anew what the source still has',
    },
  )
}
