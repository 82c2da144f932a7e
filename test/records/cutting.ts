/** Cuts bytes in memory as an extractor does, with pieces of any size: for tests of splitters. */
import type { RecordSource, RefusedRecord } from '../../src/core/contracts.ts'
import { ChunkFile } from '../../src/records/chunk-file.ts'
import { type CutRequest, cutRecords, type Excluded } from '../../src/records/cut.ts'
import { JsonCutter, type JsonPlace } from '../../src/records/json.ts'
import { visitRecords } from '../../src/records/locate.ts'
import type { Splitter } from '../../src/records/splitter.ts'
import { type ByteSource, Window } from '../../src/records/window.ts'

export interface CuttingOptions {
  readonly chunkBytes?: number
  readonly pieceBytes?: number
  readonly maxRecordBytes?: number
  readonly settled?: boolean
  /** Cut exactly these ends, as after a crash. */
  readonly exact?: readonly number[]
}

export interface MemoryCut {
  readonly from: number
  readonly to: number
  readonly bytes: Buffer
  readonly digest: string
  readonly records: number
  readonly refused: readonly RefusedRecord[]
  readonly excluded: readonly Excluded[]
  readonly returns: readonly number[]
  readonly places: readonly RecordSource[]
  readonly raws: readonly string[]
}

function bytesSource(bytes: Buffer, from = 0, pieceBytes = Number.POSITIVE_INFINITY): ByteSource {
  let at = from
  return {
    read: async (target, offset, length) => {
      const count = bytes.copy(target, offset, at, Math.min(bytes.length, at + Math.min(length, pieceBytes)))
      at += count
      return count
    },
    close: async () => undefined,
  }
}

class MemoryChunkFile extends ChunkFile {
  readonly #parts: Buffer[] = []

  #lent: Buffer | undefined

  override async append(bytes: Buffer, from: number, to: number): Promise<void> {
    await super.append(bytes, from, to)
    this.#read()
  }

  /** Reads what it was lent as late as it may. */
  override async lend(bytes: Buffer, from: number, to: number): Promise<boolean> {
    this.#read()
    await super.lend(bytes, from, to)
    this.#lent = bytes.subarray(from, Math.max(from, to))
    return to > from
  }

  get content(): Buffer {
    this.#read()
    return Buffer.concat(this.#parts)
  }

  #read(): void {
    if (this.#lent !== undefined) this.#parts.push(Buffer.from(this.#lent))
    this.#lent = undefined
  }
}

function requestFor(options: CuttingOptions, from: number, index: number, linesBefore: number): CutRequest {
  const exact = options.exact?.[index]
  return {
    target: exact ?? from + (options.chunkBytes ?? 1 << 20),
    exact: exact !== undefined,
    settled: options.settled ?? true,
    linesBefore,
    maxRecordBytes: options.maxRecordBytes ?? 1 << 20,
    origin: 'memory',
  }
}

/** Every cut by a window of its own, so that each one also proves that reading can be resumed there. */
export async function cutAll(input: Buffer, splitter: Splitter, options: CuttingOptions = {}): Promise<MemoryCut[]> {
  const cuts: MemoryCut[] = []
  let from = 0
  let linesBefore = 0
  for (;;) {
    if (options.exact !== undefined && cuts.length === options.exact.length) return cuts
    const file = new MemoryChunkFile()
    const window = new Window(bytesSource(input, from, options.pieceBytes), from)
    const cut = await cutRecords(window, splitter, requestFor(options, from, cuts.length, linesBefore), file)
    if (cut === undefined) return cuts
    const places: RecordSource[] = []
    const raws: string[] = []
    const all = Array.from({ length: cut.records }, (_, index) => index)
    const layout = { from, linesBefore, excluded: cut.excluded, returns: cut.returns }
    await visitRecords(
      async () => bytesSource(file.content, 0, options.pieceBytes),
      splitter,
      layout,
      all,
      (_, record, place) => {
        places.push(place)
        raws.push(record.toString('latin1'))
      },
    )
    cuts.push({ ...cut, from, bytes: file.content, digest: file.digest, places, raws })
    from = cut.to
    linesBefore += cut.lines
  }
}

export async function cutAllJson(input: Buffer, options: CuttingOptions = {}): Promise<MemoryCut[]> {
  const cuts: MemoryCut[] = []
  let place: JsonPlace = { at: 0, lines: 0, array: false }
  for (;;) {
    if (options.exact !== undefined && cuts.length === options.exact.length) return cuts
    const file = new MemoryChunkFile()
    const window = new Window(bytesSource(input, place.at, options.pieceBytes), place.at)
    const cut = await new JsonCutter(window, place).cut(requestFor(options, place.at, cuts.length, 0), file)
    if (cut === undefined) return cuts
    const places = Array.from({ length: cut.records }, (_, index) => cut.spans.at(index))
    const raws = places.map(({ byteFrom, byteTo }) => input.toString('latin1', byteFrom, byteTo))
    const { records, refused } = cut
    cuts.push({
      from: place.at,
      to: cut.at,
      bytes: file.content,
      digest: file.digest,
      records,
      refused,
      excluded: [],
      returns: [],
      places,
      raws,
    })
    place = cut
  }
}

/** Source bytes of a cut, put together again from the chunk and from what was left out. */
export function reassembled(cut: MemoryCut, input: Buffer): Buffer {
  const parts: Buffer[] = []
  let taken = 0
  let at = cut.from
  const returns = cut.returns.map((offset) => ({ from: offset, to: offset + 1 }))
  const left = [...cut.excluded, ...returns].sort((a, b) => a.from - b.from)
  for (const excluded of [...left, { from: cut.to, to: cut.to }]) {
    parts.push(cut.bytes.subarray(taken, taken + excluded.from - at))
    taken += excluded.from - at
    parts.push(input.subarray(excluded.from, excluded.to))
    at = excluded.to
  }
  return Buffer.concat(parts)
}
