/**
 * A whole NDJSON file far larger than a chunk, handed to the engine where it is. It is counted and summed while the engine
 * reads it: a file that is read twice, one reading after the other, takes longer than the engine's own work allows for.
 */
import { open } from 'node:fs/promises'
import { AdflowError } from '../../core/errors.ts'
import { compiledMemory } from '../../records/compiled.ts'
import type { Counted, CountRequest } from '../../records/count-file.ts'
import { countBeside } from '../../records/count-thread.ts'
import { lines } from '../../records/lines.ts'
import { PlainIntegers } from '../../records/plain-integers.ts'
import { NEWLINE } from '../../records/splitter.ts'
import { chunkRecords } from './chunk-records.ts'
import type { FileFacts } from './discover.ts'
import { type Readable, verifyInPlace } from './in-place.ts'
import type { CutChunk } from './reading.ts'

export interface WholeFileOptions {
  readonly readable: Readable
  /** The file by its own name. */
  readonly path: string
  readonly facts: FileFacts
  /** Of just this file. */
  readonly count: WholeCount
}

export function wholeFile({ readable, path, facts, count }: WholeFileOptions): CutChunk {
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
    integers: count.integers,
    counted: (anyhow) => (anyhow === true ? count.runAnyhow() : count.run()),
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
  #anyhow: Promise<boolean> | undefined

  constructor(request: CountRequest) {
    this.#request = request
  }

  get known(): Counted {
    if (this.found !== undefined) return this.found
    throw new AdflowError('UNEXPECTED', `${this.#request.origin} was asked for its records before they were counted`)
  }

  get integers(): readonly string[] {
    return this.#request.integers
  }

  /** See Chunk.counted(). */
  run(): Promise<boolean> {
    this.#running ??= noted(this.#count(this.#request))
    return this.#running
  }

  /** Also where integers are not plain: once more, then. */
  runAnyhow(): Promise<boolean> {
    const again = async (): Promise<boolean> =>
      (await this.run()) || (this.integers.length > 0 && (await this.#count({ ...this.#request, integers: [] })))
    this.#anyhow ??= noted(again())
    return this.#anyhow
  }

  stop(): void {
    this.#stop.abort()
  }

  async #count(request: CountRequest): Promise<boolean> {
    const counted = await countBeside(request, this.#stop.signal)
    if (counted === undefined || counted === 'not plain') return false
    this.found = counted
    return true
  }
}

/** Whoever began it may have given the chunk up before it ends. */
function noted<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined)
  return work
}

const HEAD_BYTES = 64 << 10

/** Which of the keys seem to have integers in plain digits, by the records that a file begins with. Of one that cannot be read: none, its reader tells why. */
export async function plainAtStart(file: string, keys: readonly string[]): Promise<readonly string[]> {
  const integers = new PlainIntegers(keys)
  if (integers.keys.length === 0) return []
  const [head] = compiledMemory(0, 1).buffers as [Buffer]
  try {
    await using handle = await open(file, 'r')
    const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0)
    integers.look(head, 0, head.subarray(0, bytesRead).lastIndexOf(NEWLINE) + 1)
  } catch {
    return []
  }
  return integers.plain ? integers.keys : []
}
