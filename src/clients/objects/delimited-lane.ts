/** Cuts one NDJSON or CSV file: BOM and header first, then chunk after chunk. */
import type { ChunkFormat } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { malformation } from '../../engine/malformed.ts'
import { ChunkFile } from '../../records/chunk-file.ts'
import { csvFields, csvSplitter, uniqueNames } from '../../records/csv.ts'
import { type Cut, cutRecords, type Excluded } from '../../records/cut.ts'
import { lines, objectLines } from '../../records/lines.ts'
import { PlainIntegers } from '../../records/plain-integers.ts'
import { countLines, type Splitter, trimLineEnd } from '../../records/splitter.ts'
import { PIECE_BYTES, type Window } from '../../records/window.ts'
import { skipByteOrderMark } from './byte-order-mark.ts'
import { chunkPath } from './chunk-names.ts'
import { chunkRecords } from './chunk-records.ts'
import { ownFile, type Readable, readInPlace, verifyInPlace } from './in-place.ts'
import type { CutOrder, LaneCutter, LaneStart, OpenLane } from './lane-cutter.ts'
import { type CutChunk, isLargerThanChunks } from './reading.ts'
import { plainAtStart, WholeCount, wholeFile } from './whole-file.ts'

export class DelimitedLane implements LaneCutter {
  readonly #lane: OpenLane
  readonly #splitter: Splitter
  #window: Window
  #at: number
  #lines: number
  #header: readonly string[] | undefined
  /** BOM and header line: in the range of the first chunk, but not in its file. */
  #prelude: Excluded | undefined

  constructor(lane: OpenLane, start: LaneStart) {
    this.#lane = lane
    const { csv, keepLines } = lane.options
    this.#splitter = lane.format === 'csv' ? csvSplitter(csv) : keepLines ? lines : objectLines(whyHopeless)
    this.#at = start.at
    this.#lines = start.lines
    this.#header = start.header
    this.#window = lane.window(start.at)
  }

  get at(): number {
    return this.#at
  }

  get raw(): number {
    return this.#lane.rawPosition(this.#window, this.#at)
  }

  get failure(): unknown {
    return this.#window.failure
  }

  get state(): { lines: number; header?: string[] } {
    return { lines: this.#lines, ...(this.#header === undefined ? {} : { header: [...this.#header] }) }
  }

  async ended(): Promise<boolean> {
    if (this.#window.length === 0) await this.#window.fill(PIECE_BYTES)
    return this.#window.length === 0 && this.#window.ended && this.#window.failure === undefined
  }

  async cut(order: CutOrder): Promise<CutChunk | undefined> {
    if (!(await this.#begin(order.settled))) return undefined
    return (await this.#inPlace(order)) ?? (await this.#copied(order))
  }

  async skip(order: CutOrder): Promise<void> {
    if (await this.#begin(order.settled)) this.#pass(await this.#records(order, new ChunkFile(), undefined))
  }

  /** false: the header is not complete yet. */
  async #begin(settled: boolean): Promise<boolean> {
    if (this.#at === 0 && this.#prelude === undefined) {
      const prelude = await this.#readPrelude(this.#window, settled)
      if (prelude === undefined) return false
      this.#prelude = prelude
      this.#lines = prelude.lines
    }
    return true
  }

  async #readPrelude(window: Window, settled: boolean): Promise<Excluded | undefined> {
    await skipByteOrderMark(window, this.#lane.origin)
    if (this.#lane.format !== 'csv') return { from: 0, to: window.position, lines: 0 }
    const { header } = this.#lane.options.csv
    if (typeof header === 'object') this.#header = uniqueNames(header)
    if (typeof header === 'object') return { from: 0, to: window.position, lines: 0 }
    let blankLines = 0
    for (;;) {
      const end = await this.#firstRecord(window, settled)
      if (end === undefined) return undefined
      const { bytes, start } = window
      const blank = this.#splitter.blank(bytes, start, trimLineEnd(bytes, start, end))
      const lineEnds = countLines(bytes, start, end)
      if (!blank) {
        const fields = csvFields(bytes.subarray(start, end), this.#lane.options.csv)
        this.#header = header ? uniqueNames(fields) : fields.map((_, index) => `column${index}`)
      }
      if (header || blank) window.consume(end - start)
      if (blank) blankLines += lineEnds
      else return { from: 0, to: window.position, lines: blankLines + (header ? lineEnds : 0) }
    }
  }

  /** Index after the first record in the window; undefined: it is not complete yet, or there is none. */
  async #firstRecord(window: Window, settled: boolean): Promise<number | undefined> {
    for (;;) {
      const end = this.#splitter.next(window.bytes, window.start, window.end)
      if (end !== -1) return end
      if (window.length > this.#lane.options.maxRecordBytes) throw this.#noHeader('is longer than any record may be')
      if ((await window.fill(PIECE_BYTES + window.length)) > 0) continue
      if (window.length === 0 || !settled || window.failure !== undefined) return undefined
      if (this.#splitter.broken(window.bytes, window.start, window.end))
        throw this.#noHeader('has a quote that is never closed')
      return window.end
    }
  }

  #noHeader(found: string): AdflowError {
    return new AdflowError('SOURCE_DAMAGED', `the header line of ${this.#lane.origin} ${found}`, {
      hint: 'check `csv.quote` and `csv.delimiter`, or set `csv.header: false`',
    })
  }

  async #records(order: CutOrder, file: ChunkFile, integers: PlainIntegers | undefined): Promise<Cut | undefined> {
    return cutRecords(
      this.#window,
      this.#splitter,
      {
        ...order,
        linesBefore: this.#lines,
        maxRecordBytes: this.#lane.options.maxRecordBytes,
        origin: this.#lane.origin,
        integers,
      },
      file,
    )
  }

  /** A whole plain NDJSON file that nobody writes any more needs no copy. */
  async #inPlace(order: CutOrder): Promise<CutChunk | undefined> {
    const lane = this.#lane
    const { facts, local } = lane.file
    if (local === undefined) return undefined
    if (lane.format !== 'ndjson' || lane.compressed || this.#at > 0 || this.#prelude?.to !== 0) return undefined
    if (!order.settled || facts.size === 0) return undefined
    const { chunkBytes, wholeBytes } = lane.options
    const isSmall = !isLargerThanChunks(facts.size, chunkBytes)
    const isWhole = order.exact
      ? order.target === facts.size
      : order.target >= facts.size || (!order.limited && (isSmall || facts.size <= (wholeBytes?.() ?? 0)))
    if (!isWhole) return undefined
    const uncounted = !isSmall && wholeBytes !== undefined
    const begun = uncounted ? await lane.options.ahead?.take(local, facts) : undefined
    if (begun !== undefined) return this.#uncounted(begun.readable, local, begun.count)
    const target = chunkPath(lane.options.chunkDir, 'ndjson')
    const readable = await readInPlace(local, target, facts, lane.options.folders)
    if (readable === undefined) return undefined
    if (uncounted) return this.#uncounted(readable, local, await this.#count(readable, local))
    const file = new ChunkFile()
    const integers = this.#integers()
    // One byte beyond the end, so that the cut meets the end of the file itself.
    const cut = await this.#records({ ...order, target: order.exact ? facts.size : facts.size + 1 }, file, integers)
    if (cut?.to === facts.size && cut.excluded.length === 0)
      return { ...this.#chunk(cut, readable, file, integers), verify: () => verifyInPlace(readable.file, local, facts) }
    await readable.discard()
    this.#window = lane.window(0)
    return undefined
  }

  /** The lane is at its end then; how many lines that are the chunk knows. */
  #uncounted(readable: Readable, path: string, count: WholeCount): CutChunk {
    const { facts } = this.#lane.file
    this.#at = facts.size
    this.#window = this.#lane.window(this.#at)
    return wholeFile({ facts, path, readable, count })
  }

  async #count({ file }: Readable, path: string): Promise<WholeCount> {
    const { file: source, options } = this.#lane
    const integers = await plainAtStart(file, options.integers)
    return new WholeCount({
      file,
      origin: path,
      bytes: source.facts.size,
      maxRecordBytes: options.maxRecordBytes,
      integers,
    })
  }

  #integers(): PlainIntegers | undefined {
    const { format, options } = this.#lane
    return format === 'ndjson' ? new PlainIntegers(options.integers) : undefined
  }

  async #copied(order: CutOrder): Promise<CutChunk | undefined> {
    const path = chunkPath(this.#lane.options.chunkDir, this.#lane.format)
    const file = new ChunkFile(path)
    const integers = this.#integers()
    try {
      const cut = await this.#records(order, file, integers)
      if (cut === undefined) return undefined
      await file.finish()
      return this.#chunk(cut, ownFile(path), file, integers)
    } catch (error) {
      await file.discard()
      throw error
    }
  }

  #chunk(cut: Cut, readable: Readable, file: ChunkFile, integers: PlainIntegers | undefined): CutChunk {
    const prelude = this.#at === 0 && this.#prelude !== undefined && this.#prelude.to > 0 ? [this.#prelude] : []
    const linesBefore = this.#at === 0 ? 0 : this.#lines
    const layout = { from: this.#at, linesBefore, excluded: [...prelude, ...cut.excluded], returns: cut.returns }
    this.#pass(cut)
    return {
      to: cut.to,
      ...readable,
      format: this.#format(),
      records: cut.records,
      refused: cut.refused,
      bytes: file.bytes,
      digest: file.digest,
      integers: integers?.plain === true ? integers.keys : undefined,
      ...chunkRecords(readable.file, this.#splitter, layout, () => cut.records),
    }
  }

  #pass(cut: Cut | undefined): void {
    if (cut === undefined) return
    this.#at = cut.to
    this.#lines += cut.lines
  }

  #format(): ChunkFormat {
    if (this.#lane.format !== 'csv') return { type: 'ndjson' }
    const { delimiter, quote } = this.#lane.options.csv
    return { type: 'csv', delimiter, quote, header: this.#header ?? [] }
  }
}

/** Nothing is asked of columns where there is no object. */
function whyHopeless(raw: Buffer): string {
  return malformation(raw, { type: 'ndjson' }, []).reason
}
