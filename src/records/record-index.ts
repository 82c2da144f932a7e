/**
 * Where each record stands in a chunk file. A damaged chunk is asked for single records several times; walking it each time
 * would cost more than reading it. Twelve bytes a record, made on the first question.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { localIoError } from '../core/errors.ts'
import { countLines, type Splitter, trimLineEnd } from './splitter.ts'
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
      for (const ordinal of ordinals) {
        const { start, end } = this.span(ordinal)
        const record = Buffer.allocUnsafe(end - start)
        const { bytesRead } = await handle.read(record, 0, record.length, start)
        found.push(bytesRead === record.length ? record : record.subarray(0, bytesRead))
      }
      return found
    } catch (error) {
      throw localIoError(error, `read ${this.#file}`)
    } finally {
      await handle.close()
    }
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
      lineEnds += countLines(window.bytes, window.start, end)
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
