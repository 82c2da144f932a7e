/**
 * A whole NDJSON file far larger than a chunk, handed to the engine where it is. It is counted and summed while the engine
 * reads it: a file that is read twice, one reading after the other, takes longer than the engine's own work allows for.
 */
import { AdflowError } from '../../core/errors.ts'
import type { Counted, CountRequest } from '../../records/count-file.ts'
import { countBeside } from '../../records/count-thread.ts'
import { lines } from '../../records/lines.ts'
import { chunkRecords } from './chunk-records.ts'
import type { FileFacts } from './discover.ts'
import { type Readable, verifyInPlace } from './in-place.ts'
import type { CutChunk } from './reading.ts'

export interface WholeFileOptions {
  readonly readable: Readable
  /** The file by its own name. */
  readonly path: string
  readonly facts: FileFacts
  readonly maxRecordBytes: number
  /** Of just this file, where it was begun already. */
  readonly count?: WholeCount | undefined
}

export function wholeFile({ readable, path, facts, maxRecordBytes, count: begun }: WholeFileOptions): CutChunk {
  const count = begun ?? new WholeCount({ file: readable.file, origin: path, bytes: facts.size, maxRecordBytes })
  const layout = { from: 0, linesBefore: 0, excluded: [] }
  return {
    to: facts.size,
    file: readable.file,
    format: { type: 'ndjson' },
    refused: [],
    bytes: facts.size,
    get records() {
      return count.known.records
    },
    get digest() {
      return count.known.digest
    },
    lines: () => count.found?.lines,
    counted: () => count.run(),
    verify: () => verifyInPlace(readable.file, path, facts),
    ...chunkRecords(readable.file, lines, layout, () => count.known.records),
    discard: async () => {
      count.stop()
      await readable.discard()
    },
  }
}

export class WholeCount {
  found: Counted | undefined
  readonly #request: CountRequest
  readonly #stop = new AbortController()
  #running: Promise<boolean> | undefined

  constructor(request: CountRequest) {
    this.#request = request
  }

  get known(): Counted {
    if (this.found !== undefined) return this.found
    throw new AdflowError('UNEXPECTED', `${this.#request.origin} was asked for its records before they were counted`)
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
    this.found = await countBeside(this.#request, this.#stop.signal)
    return this.found !== undefined
  }
}
