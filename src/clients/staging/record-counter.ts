/** Counts records while their bytes are written, so that nobody has to read them once more for it. */
import { csvSplitter } from '../../records/csv.ts'
import { lines } from '../../records/lines.ts'
import { countLines, type Splitter, type Tally } from '../../records/splitter.ts'
import type { SegmentFormat } from './segment.ts'

export interface Counted {
  readonly lineEnds: number
  /** undefined: some bytes are no record, or none that a chunk may have as it stands. Cutting finds out which. */
  readonly records: number | undefined
  /** The beginning of a record whose end has not come; not counted yet. */
  readonly rest: Buffer
}

/** Where most records that two pieces share come to their end. */
const NEAR_BYTES = 4096
const NOTHING = Buffer.alloc(0)

export const NONE_COUNTED: Counted = { lineEnds: 0, records: 0, rest: NOTHING }

export function splitterOf(format: SegmentFormat): Splitter {
  return format.type === 'csv' ? csvSplitter(format) : lines
}

export class RecordCounter {
  readonly #splitter: Splitter
  readonly #maxRecordBytes: number
  readonly #tally: Tally = { end: 0, records: 0, lines: 0, returns: [] }

  constructor(format: SegmentFormat, maxRecordBytes: number) {
    this.#splitter = splitterOf(format)
    this.#maxRecordBytes = maxRecordBytes
  }

  /** `bytes` follow what was counted before. `known`: they are so many lines, each a record. */
  add(before: Counted, bytes: Buffer, known?: number): Counted {
    const { records, rest } = before
    if (known !== undefined && records !== undefined && rest.length === 0)
      return { lineEnds: before.lineEnds + known, records: records + known, rest }
    if (records === undefined) return linesAlone(before, bytes)
    const first = rest.length === 0 ? NOTHING : this.#firstOf(rest, bytes)
    if (first === undefined) return this.#waits(before, bytes, Buffer.concat([rest, bytes]))
    const tally = this.#tally
    tally.records = 0
    tally.lines = 0
    const from = first.length === 0 ? 0 : first.length - rest.length
    if (first.length > 0 && this.#taken(first, 0) !== first.length) return linesAlone(before, bytes)
    const end = this.#taken(bytes, from)
    if (end === undefined) return linesAlone(before, bytes)
    const counted = { lineEnds: before.lineEnds + tally.lines, records: records + tally.records }
    // A copy: the buffer is its owner's again.
    return this.#waits(before, bytes, Buffer.from(bytes.subarray(end)), counted)
  }

  /** The page is whole: what is left of a record will have no end. */
  settled(counted: Counted): Counted {
    return counted.rest.length === 0 ? counted : linesAlone(counted, NOTHING)
  }

  #waits(before: Counted, bytes: Buffer, rest: Buffer, counted: Omit<Counted, 'rest'> = before): Counted {
    if (rest.length > this.#maxRecordBytes) return linesAlone(before, bytes)
    const { lineEnds, records } = counted
    return { lineEnds, records, rest }
  }

  /** Index after the last whole record. undefined: one of them may not stay as it is. */
  #taken(bytes: Buffer, from: number): number | undefined {
    const stop = this.#splitter.scan(bytes, from, bytes.length, this.#maxRecordBytes, this.#tally)
    const hasReturns = this.#tally.returns.length > 0
    this.#tally.returns.length = 0
    return stop === 'more' && !hasReturns ? this.#tally.end : undefined
  }

  /** The record that began in the piece before, up to its end. undefined: it has none in these bytes either. */
  #firstOf(rest: Buffer, bytes: Buffer): Buffer | undefined {
    for (const near of [NEAR_BYTES, bytes.length]) {
      const joined = Buffer.concat([rest, bytes.subarray(0, near)])
      const end = this.#splitter.next(joined, 0, joined.length)
      if (end !== -1) return joined.subarray(0, end)
    }
    return undefined
  }
}

function linesAlone({ lineEnds, rest }: Counted, bytes: Buffer): Counted {
  const more = countLines(rest, 0, rest.length) + countLines(bytes, 0, bytes.length)
  return { lineEnds: lineEnds + more, records: undefined, rest: NOTHING }
}
