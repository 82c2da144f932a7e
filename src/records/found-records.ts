/**
 * Finds the records of a JSON array many at once, by WebAssembly (wasm/json-spans.ts), in buffers that lie in its memory: a tenth of the time that
 * it takes JavaScript to look at each byte. Whatever is unusual it leaves to the scanner.
 */
import { type Compiled, compiledMemory } from './compiled.ts'
import { PieceBuffers } from './piece-buffers.ts'
import { NEWLINE } from './splitter.ts'
import { PIECE_BYTES } from './window.ts'

/** A window, what is filled, and twice as many that are full or written: of this page and of the one before. */
const BUFFERS = 6
const MOST_FOUND = 8192
/** Begin, end and line ends of a record. */
const ENTRY = 3
/** A buffer has room for it and its line end. */
const LONGEST_BYTES = PIECE_BYTES - 1

export class FoundRecords {
  /** What is to be searched, and what records are gathered in, comes from here. */
  readonly buffers: PieceBuffers
  /** How many the last find() found. */
  count = 0
  readonly #memory: ArrayBuffer
  readonly #compiled: Compiled
  readonly #table: Int32Array

  constructor() {
    const tableLength = MOST_FOUND * ENTRY
    const { compiled, memory, buffers } = compiledMemory(tableLength * Int32Array.BYTES_PER_ELEMENT, BUFFERS)
    this.#compiled = compiled
    this.#memory = memory
    this.#table = new Int32Array(memory, 0, tableLength)
    this.buffers = new PieceBuffers(buffers)
  }

  /** Bytes of the longest one, and line ends between tokens of all of them. */
  get longest(): number {
    return this.#compiled.longest.value
  }

  get lineEnds(): number {
    return this.#compiled.lineEnds.value
  }

  /** Looks for whole records of up to `limit` bytes in `bytes[from, to)`, which follow a record of an array. The index after the last one, or `from`. */
  find(bytes: Buffer, from: number, to: number, limit: number): number {
    this.count = 0
    if (bytes.buffer !== this.#memory) return from
    const { byteOffset: base } = bytes
    this.count = this.#compiled.find(base + from, base + to, 0, MOST_FOUND, Math.min(limit, LONGEST_BYTES))
    return this.count === 0 ? from : (this.#table[(this.count - 1) * ENTRY + 1] as number) - base
  }

  /** Calls for each, in the bytes that were searched. */
  each(bytes: Buffer, take: (bytes: Buffer, from: number, to: number, lines: number) => void): void {
    const table = this.#table
    const { byteOffset: base } = bytes
    for (let at = 0; at < this.count * ENTRY; at += ENTRY)
      take(bytes, (table[at] as number) - base, (table[at + 1] as number) - base, table[at + 2] as number)
  }

  /** Copies records from the one of this index on, each with a line end after it, to `target` at `offset`, as many as there is room for: how many, and
   *  where the next one belongs. `bytes`: those that were searched. */
  gather(
    first: number,
    bytes: Buffer,
    target: Buffer,
    offset: number,
  ): { readonly records: number; readonly end: number } {
    if (target.buffer !== this.#memory) return this.#gathered(first, bytes, target, offset)
    const { byteOffset: base } = target
    const last = this.#compiled.gather(0, first, this.count, base + offset, base + target.length)
    return { records: last - first, end: this.#compiled.filled.value - base }
  }

  /** The same where the target is none of the buffers: all of them are in use. */
  #gathered(first: number, bytes: Buffer, target: Buffer, offset: number): ReturnType<FoundRecords['gather']> {
    let end = offset
    let index = first
    for (; index < this.count; index += 1) {
      const from = (this.#table[index * ENTRY] as number) - bytes.byteOffset
      const to = (this.#table[index * ENTRY + 1] as number) - bytes.byteOffset
      if (end + to - from >= target.length) break
      end += bytes.copy(target, end, from, to)
      target[end] = NEWLINE
      end += 1
    }
    return { records: index - first, end }
  }
}
