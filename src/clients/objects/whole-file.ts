/**
 * A whole NDJSON file far larger than a chunk, handed to the engine where it is. It is counted and summed while the engine
 * reads it: a file that is read twice, one reading after the other, takes longer than the engine's own work allows for.
 */
import { AdflowError } from '../../core/errors.ts'
import { ChunkFile } from '../../records/chunk-file.ts'
import { type Cut, cutRecords } from '../../records/cut.ts'
import { lines } from '../../records/lines.ts'
import { Window } from '../../records/window.ts'
import { chunkRecords } from './chunk-records.ts'
import type { FileFacts } from './discover.ts'
import { type Readable, verifyInPlace } from './in-place.ts'
import { LocalFile } from './local-file.ts'
import type { CutChunk } from './reading.ts'

export interface WholeFileOptions {
  readonly readable: Readable
  /** The file by its own name. */
  readonly path: string
  readonly facts: FileFacts
  readonly maxRecordBytes: number
}

export function wholeFile({ readable, path, facts, maxRecordBytes }: WholeFileOptions): CutChunk {
  const count = new Count(readable.file, path, facts.size, maxRecordBytes)
  const layout = { from: 0, linesBefore: 0, excluded: [] }
  return {
    to: facts.size,
    file: readable.file,
    format: { type: 'ndjson' },
    refused: [],
    bytes: facts.size,
    get records() {
      return count.known.cut.records
    },
    get digest() {
      return count.known.digest
    },
    lines: () => count.found?.cut.lines,
    counted: () => count.run(),
    verify: () => verifyInPlace(readable.file, path, facts),
    ...chunkRecords(readable.file, lines, layout, () => count.known.cut.records),
    discard: async () => {
      count.stop()
      await readable.discard()
    },
  }
}

class Count {
  found: { readonly cut: Cut; readonly digest: string } | undefined
  readonly #file: string
  readonly #origin: string
  readonly #bytes: number
  readonly #maxRecordBytes: number
  readonly #stop = new AbortController()
  #running: Promise<boolean> | undefined

  constructor(file: string, origin: string, bytes: number, maxRecordBytes: number) {
    this.#file = file
    this.#origin = origin
    this.#bytes = bytes
    this.#maxRecordBytes = maxRecordBytes
  }

  get known(): NonNullable<Count['found']> {
    if (this.found !== undefined) return this.found
    throw new AdflowError('UNEXPECTED', `${this.#origin} was asked for its records before they were counted`)
  }

  run(): Promise<boolean> {
    if (this.#running === undefined) {
      this.#running = this.#count()
      this.#running.catch(() => undefined) // whoever began it may have given the chunk up before it ends
    }
    return this.#running
  }

  stop(): void {
    this.#stop.abort()
  }

  async #count(): Promise<boolean> {
    const file = await LocalFile.open(this.#file)
    try {
      const sum = new ChunkFile()
      const cut = await cutRecords(
        new Window(file.forward(0), 0, this.#stop.signal),
        lines,
        {
          target: this.#bytes,
          exact: true,
          settled: true,
          linesBefore: 0,
          maxRecordBytes: this.#maxRecordBytes,
          origin: this.#origin,
        },
        sum,
      )
      // A record beyond the limit must not reach the engine.
      if (cut?.to !== this.#bytes || cut.refused.length > 0 || cut.excluded.length > 0) return false
      this.found = { cut, digest: sum.digest }
      return true
    } finally {
      await file.close()
    }
  }
}
