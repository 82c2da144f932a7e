/** Finds single records of a chunk file again: their place in the source, and their bytes. */
import type { RecordSource } from '../core/contracts.ts'
import type { Excluded } from './cut.ts'
import { countLines, type Splitter, trimLineEnd } from './splitter.ts'
import { type ByteSource, PIECE_BYTES, Window } from './window.ts'

/** How the bytes of a chunk file map to its source. */
export interface ChunkLayout {
  /** Offset in the source, and lines before it, where the chunk's range begins. */
  readonly from: number
  readonly linesBefore: number
  /** Ascending parts of the range that are not in the file. */
  readonly excluded: readonly Excluded[]
  /** Ascending offsets of single bytes of the range that are not in the file. */
  readonly returns?: readonly number[]
}

/** Called with the record's bytes (without its line end), valid during the call only. */
type Visit = (ordinal: number, record: Buffer, source: RecordSource) => void

/** Walks the file up to the last wanted ordinal. `wanted` is ascending. Closes the source. */
export async function visitRecords(
  open: () => Promise<ByteSource>,
  splitter: Splitter,
  layout: ChunkLayout,
  wanted: readonly number[],
  visit: Visit,
): Promise<void> {
  if (wanted.length === 0) return
  const window = new Window(await open(), 0)
  const place = new Places(layout)
  let lineEnds = 0
  let ordinal = 0
  let next = 0
  try {
    while (next < wanted.length) {
      let end = splitter.next(window.bytes, window.start, window.end)
      if (end === -1) {
        if ((await window.fill(PIECE_BYTES + window.length)) > 0) continue
        if (window.failure !== undefined) throw window.failure
        if (window.length === 0) break
        end = window.end
      }
      const { bytes, start } = window
      const length = end - start
      const stop = trimLineEnd(bytes, start, end)
      if (!splitter.blank(bytes, start, stop)) {
        if (ordinal === wanted[next]) {
          visit(ordinal, bytes.subarray(start, stop), place.of(window.position, stop - start, lineEnds))
          next += 1
        }
        ordinal += 1
      }
      lineEnds += countLines(bytes, start, end)
      window.consume(length)
    }
  } finally {
    await window.close()
  }
}

/** Offsets in the file → offsets and lines in the source. Asked in ascending order. */
export class Places {
  readonly #layout: ChunkLayout
  #skippedBytes = 0
  #lines: number
  #nextExcluded = 0
  #nextReturn = 0

  constructor(layout: ChunkLayout) {
    this.#layout = layout
    this.#lines = layout.linesBefore
  }

  /** `lineEnds`: line ends of the file before the record. */
  of(fileOffset: number, length: number, lineEnds: number): RecordSource {
    this.#skip(fileOffset)
    const byteFrom = this.#layout.from + fileOffset + this.#skippedBytes
    return { byteFrom, byteTo: byteFrom + length, line: this.#lines + lineEnds + 1 }
  }

  #skip(fileOffset: number): void {
    const { from, excluded, returns } = this.#layout
    for (;;) {
      const at = from + fileOffset + this.#skippedBytes
      const part = excluded[this.#nextExcluded]
      const single = returns?.[this.#nextReturn] ?? Number.POSITIVE_INFINITY
      if (part !== undefined && part.from <= at && part.from < single) {
        this.#skippedBytes += part.to - part.from
        this.#lines += part.lines
        this.#nextExcluded += 1
      } else if (single <= at) {
        this.#skippedBytes += 1
        this.#nextReturn += 1
      } else return
    }
  }
}
