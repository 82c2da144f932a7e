/**
 * The count of a whole file, begun while the run is still being opened: that keeps one core busy, and later the engine needs all of them. Which file
 * will be read first is a guess. A wrong one costs what was read until it is given up; a right one goes on as the count of its chunk.
 */
import { AdflowError } from '../../core/errors.ts'
import { chunkPath } from './chunk-names.ts'
import type { FileFacts, SourceFile } from './discover.ts'
import { formatOf, isCompressed } from './file-format.ts'
import { isSameFile, isUnchanged } from './identity.ts'
import { type Readable, readInPlace } from './in-place.ts'
import type { KnownLane } from './lanes.ts'
import type { LocalPlace } from './local-place.ts'
import { isLargerThanChunks, isSettled, type ReadingOptions } from './reading.ts'
import { plainAtStart, WholeCount } from './whole-file.ts'

export interface AheadRequest
  extends Pick<
    ReadingOptions,
    | 'format'
    | 'compression'
    | 'settleMs'
    | 'unterminated'
    | 'chunkDir'
    | 'folders'
    | 'chunkBytes'
    | 'maxRecordBytes'
    | 'integers'
  > {
  readonly wholeBytes: number
  /** Of these nothing is begun. */
  readonly known: readonly KnownLane[]
}

export interface BegunCount {
  readonly path: string
  readonly facts: FileFacts
  readonly readable: Readable
  readonly count: WholeCount
}

export class CountAhead {
  readonly #place: LocalPlace
  #begun: Promise<BegunCount | undefined> = Promise.resolve(undefined)
  #stopped = false

  constructor(place: LocalPlace) {
    this.#place = place
  }

  begin(request: AheadRequest): void {
    this.#begun = this.#begin(request).catch((error: unknown) => {
      if (error instanceof AdflowError) return undefined // whoever reads the file meets it again
      throw error
    })
    this.#begun.catch(() => undefined) // told to take() or stop()
  }

  /** Of this file as it is now; whoever takes the count gives up what belongs to it. Any other count ends. */
  async take(path: string, facts: FileFacts): Promise<BegunCount | undefined> {
    const begun = await this.#begun
    if (begun === undefined || begun.path !== path || !isUnchanged(begun.facts, facts)) {
      await this.stop()
      return undefined
    }
    this.#begun = Promise.resolve(undefined)
    return begun
  }

  async stop(): Promise<void> {
    this.#stopped = true
    const begun = await this.#begun
    this.#begun = Promise.resolve(undefined)
    begun?.count.stop()
    await begun?.readable.discard()
  }

  async #begin(request: AheadRequest): Promise<BegunCount | undefined> {
    const { files } = await this.#place.discoverAhead()
    const file = files.find(({ path, facts }) => !request.known.some((lane) => isKnown(lane, path, facts)))
    if (file === undefined || !isWhole(file, request)) return undefined
    const { absolute: path, facts } = file
    const readable = await readInPlace(path, chunkPath(request.chunkDir, 'ndjson'), facts, request.folders)
    if (readable === undefined) return undefined
    const count = new WholeCount({
      ...{ file: readable.file, origin: path, bytes: facts.size },
      maxRecordBytes: request.maxRecordBytes,
      integers: await plainAtStart(readable.file, request.integers),
    })
    if (!this.#stopped) void count.run()
    return { path, facts, readable, count }
  }
}

function isKnown({ lane, mark }: KnownLane, path: string, facts: FileFacts): boolean {
  return lane === path || mark?.path === path || (mark !== undefined && isSameFile(mark, facts))
}

function isWhole({ absolute, facts }: SourceFile, request: AheadRequest): boolean {
  const { format = formatOf(absolute), compression, chunkBytes, wholeBytes } = request
  const plain = compression === 'none' || (compression === 'auto' && !isCompressed(absolute))
  return (
    format === 'ndjson' &&
    plain &&
    isSettled(request, facts) &&
    isLargerThanChunks(facts.size, chunkBytes) &&
    facts.size <= wholeBytes
  )
}
