/**
 * Where each record stands in a chunk file. A damaged chunk is asked for single records several times; walking it each time
 * would cost more than reading it. Twelve bytes a record, made on the first question.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { localIoError } from '../core/errors.ts'
import { countLines, NEWLINE, type Splitter, trimLineEnd } from './splitter.ts'
import { PIECE_BYTES, Window } from './window.ts'

/** Bytes up to this may begin a blank line: space and all control characters. */
const MAYBE_BLANK = 32
const GROWTH = 1.5

export interface RecordSpan {
  readonly start: number
  /** Without the line end. */
  readonly end: number
  /** Line ends of the file before the record. */
  readonly lineEnds: number
}

export class RecordIndex {
  readonly #file: string
  #starts: Uint32Array
  #ends: Uint32Array
  #lineEnds: Uint32Array
  #count = 0

  private constructor(file: string, expected: number) {
    this.#file = file
    this.#starts = new Uint32Array(expected)
    this.#ends = new Uint32Array(expected)
    this.#lineEnds = new Uint32Array(expected)
  }

  /** `expected`: how many records there probably are. */
  static async build(file: string, splitter: Splitter, expected: number): Promise<RecordIndex> {
    const index = new RecordIndex(file, Math.max(expected, 16))
    const handle = await openFile(file)
    const window = new Window(
      {
        read: async (target, offset, length) => (await handle.read(target, offset, length)).bytesRead,
        close: () => handle.close(),
      },
      0,
    )
    try {
      await index.#fill(window, splitter)
    } finally {
      await window.close()
    }
    return index
  }

  span(ordinal: number): RecordSpan {
    if (ordinal >= this.#count) throw new RangeError(`${this.#file} has ${this.#count} records, not ${ordinal + 1}`)
    return {
      start: this.#starts[ordinal] as number,
      end: this.#ends[ordinal] as number,
      lineEnds: this.#lineEnds[ordinal] as number,
    }
  }

  /** Bytes of records, without their line ends. */
  async bytes(ordinals: readonly number[]): Promise<Buffer[]> {
    if (ordinals.length === 0) return []
    const handle = await openFile(this.#file)
    try {
      const found: Buffer[] = []
      // One for all reads: buffers of this size set off major collections.
      const buffer = { bytes: Buffer.alloc(0) }
      while (found.length < ordinals.length)
        found.push(...(await this.#together(handle, ordinals, found.length, buffer)))
      return found
    } catch (error) {
      throw localIoError(error, `read ${this.#file}`)
    } finally {
      await handle.close()
    }
  }

  /** One read for all records from `first` on that lie close together: a read for each costs more than the bytes between. */
  async #together(
    handle: FileHandle,
    ordinals: readonly number[],
    first: number,
    buffer: { bytes: Buffer },
  ): Promise<Buffer[]> {
    const { start, end } = this.span(ordinals[first] as number)
    let stop = end
    let count = 1
    for (; first + count < ordinals.length; count += 1) {
      const next = this.span(ordinals[first + count] as number)
      if (next.end - start > PIECE_BYTES) break
      stop = next.end
    }
    if (buffer.bytes.length < stop - start) buffer.bytes = Buffer.allocUnsafeSlow(Math.max(stop - start, PIECE_BYTES))
    const piece = buffer.bytes.subarray(0, stop - start)
    const { bytesRead } = await handle.read(piece, 0, piece.length, start)
    return ordinals.slice(first, first + count).map((ordinal) => {
      const span = this.span(ordinal)
      // A copy: a view would hold the whole piece for as long as the record is held.
      return Buffer.from(piece.subarray(Math.min(span.start - start, bytesRead), Math.min(span.end - start, bytesRead)))
    })
  }

  async #fill(window: Window, splitter: Splitter): Promise<void> {
    let lineEnds = 0
    for (;;) {
      const { bytes, start } = window
      let end = splitter.next(bytes, start, window.end)
      if (end === -1) {
        if ((await window.fill(PIECE_BYTES + window.length)) > 0) continue
        if (window.failure !== undefined) throw window.failure
        if (window.length === 0) return
        end = window.end
      }
      const stop = trimLineEnd(window.bytes, window.start, end)
      const first = window.bytes[window.start] as number
      if (stop > window.start && (first > MAYBE_BLANK || !splitter.blank(window.bytes, window.start, stop)))
        this.#add(window.position, window.position + stop - window.start, lineEnds)
      else if (stop === window.start && !splitter.blank(window.bytes, window.start, stop))
        this.#add(window.position, window.position, lineEnds)
      lineEnds += splitter.multiline
        ? countLines(window.bytes, window.start, end)
        : Number(window.bytes[end - 1] === NEWLINE)
      window.consume(end - window.start)
    }
  }

  #add(start: number, end: number, lineEnds: number): void {
    if (this.#count === this.#starts.length) {
      const size = Math.ceil(this.#count * GROWTH)
      this.#starts = grown(this.#starts, size)
      this.#ends = grown(this.#ends, size)
      this.#lineEnds = grown(this.#lineEnds, size)
    }
    this.#starts[this.#count] = start
    this.#ends[this.#count] = end
    this.#lineEnds[this.#count] = lineEnds
    this.#count += 1
  }
}

function grown(array: Uint32Array, size: number): Uint32Array {
  const larger = new Uint32Array(size)
  larger.set(array)
  return larger
}

async function openFile(file: string): Promise<FileHandle> {
  return open(file, 'r').catch((error: unknown) => {
    throw localIoError(error, `read ${file}`)
  })
}
