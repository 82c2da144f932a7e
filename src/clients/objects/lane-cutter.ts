/** What the formats that are read as a stream of bytes have in common. */
import { type CompiledMemory, compiledMemory } from '../../records/compiled.ts'
import { Inflater } from '../../records/compression.ts'
import { PIECE_BYTES, Window } from '../../records/window.ts'
import type { SourceFile } from './discover.ts'
import type { OpenFile } from './place.ts'
import type { CutChunk, FileFormat, ReadingOptions } from './reading.ts'

const LEAST_WINDOW = 4096

/** Memory of lanes that were closed: some, since no more than a few are read at the same time. */
const idle: CompiledMemory[] = []
const MOST_IDLE = 8

export interface LaneStart {
  readonly at: number
  readonly lines: number
  readonly header: readonly string[] | undefined
  readonly array: boolean
}

export const BEGINNING: LaneStart = { at: 0, lines: 0, header: undefined, array: false }

export interface CutOrder {
  readonly target: number
  /** End exactly at `target`. */
  readonly exact: boolean
  /** `target` is the last position that may be read, not only the size of a chunk. */
  readonly limited: boolean
  readonly settled: boolean
}

/** Cuts one open file, one chunk after the other. */
export interface LaneCutter {
  /** Where the next chunk begins. */
  readonly at: number
  /** How far the file itself was read for it. */
  readonly raw: number
  /** Why the source ended early. */
  readonly failure: unknown
  /** What the mark must remember to go on from `at`. */
  readonly state: { readonly lines: number; readonly header?: string[]; readonly array?: boolean }
  /** undefined: there is no complete record any more. */
  cut(order: CutOrder): Promise<CutChunk | undefined>
  /** Passes over a stretch that was read before, for the sake of what `state` must know. */
  skip(order: CutOrder): Promise<void>
  /** The file has nothing after `at`. Reads on to find out. */
  ended(): Promise<boolean>
}

/** One file while it is read. */
export class OpenLane {
  readonly origin: string
  readonly format: FileFormat
  readonly compressed: boolean
  readonly file: OpenFile
  readonly options: ReadingOptions
  readonly #source: SourceFile
  readonly #kind: 'none' | 'gzip' | 'zstd'
  readonly #windows = new Map<Window, Inflater | undefined>()
  readonly #memories: CompiledMemory[] = []

  constructor(
    file: OpenFile,
    source: SourceFile,
    format: FileFormat,
    kind: 'none' | 'gzip' | 'zstd',
    options: ReadingOptions,
  ) {
    this.origin = source.absolute
    this.format = format
    this.compressed = kind !== 'none'
    this.file = file
    this.options = options
    this.#source = source
    this.#kind = kind
  }

  /** A window at an offset of the decompressed bytes. Compressed files are decompressed from their start for it. */
  window(at: number): Window {
    const inflater = this.#inflater(at)
    const window = new Window(inflater ?? this.file.forward(at), at, this.options.signal, ...this.#memory(at))
    this.#windows.set(window, inflater)
    return window
  }

  /** The file once more, for looking back. The caller closes it. */
  reopen(): Promise<OpenFile> {
    return this.options.place.open(this.#source)
  }

  again(file: OpenFile, at: number): Window {
    return new Window(this.#inflater(at, file) ?? file.forward(at), at)
  }

  /** How far the file itself was read for what the window has given up to `at`. */
  rawPosition(window: Window, at: number): number {
    return this.#windows.get(window)?.rawPosition ?? at
  }

  async close(): Promise<void> {
    for (const window of this.#windows.keys()) await window.close()
    idle.push(...this.#memories.splice(0).slice(0, MOST_IDLE - idle.length))
    await this.file.close()
  }

  /** One buffer, or two that take turns. Of a small file no more than it fills: thousands of them may follow each other. */
  #memory(at: number): readonly [Buffer, Buffer?] {
    const left = this.compressed ? PIECE_BYTES : this.file.facts.size - at
    if (left < PIECE_BYTES || this.format !== 'ndjson')
      return [Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, Math.max(LEAST_WINDOW, left)))]
    const memory = idle.pop() ?? compiledMemory(0, 2)
    this.#memories.push(memory)
    return [...memory.buffers] as [Buffer, Buffer]
  }

  #inflater(skip: number, file = this.file): Inflater | undefined {
    if (this.#kind === 'none') return undefined
    const reader = { readAt: file.readAt.bind(file), close: async () => undefined }
    return new Inflater(reader, this.#kind, { origin: this.origin, skip, maxRatio: this.options.maxRatio })
  }
}
