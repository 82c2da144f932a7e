/** A stream of NDJSON – standard input, a file – as chunks whose edges follow from its bytes and the target size alone. */
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { skipByteOrderMark } from '../clients/objects/byte-order-mark.ts'
import type { Chunk, RecordSource } from '../core/contracts.ts'
import { localIoError } from '../core/errors.ts'
import { ChunkFile } from '../records/chunk-file.ts'
import { type Cut, cutRecords } from '../records/cut.ts'
import { lines } from '../records/lines.ts'
import { visitRecords } from '../records/locate.ts'
import { type ByteSource, Window } from '../records/window.ts'

export interface StreamOptions {
  /** Name of the stream: the lane of its chunks, and their origin. */
  readonly name: string
  /** Folder for chunk files, engine-readable. */
  readonly folder: string
  readonly chunkBytes: number
  readonly maxRecordBytes: number
  readonly signal?: AbortSignal
}

let files = 0

/** Reads on only when the next chunk is asked for. The chunk file is gone after release(). */
export async function* streamChunks(stream: AsyncIterable<Uint8Array>, options: StreamOptions): AsyncGenerator<Chunk> {
  const { name, folder, chunkBytes, maxRecordBytes, signal } = options
  const window = new Window(byteSource(stream, name), 0, signal)
  let linesBefore = 0
  try {
    await skipByteOrderMark(window, name)
    for (;;) {
      files += 1
      const path = join(folder, `stream-${files}.ndjson`)
      const from = window.position
      const file = new ChunkFile(path)
      const request = {
        target: from + chunkBytes,
        exact: false,
        settled: true,
        linesBefore,
        maxRecordBytes,
        origin: name,
      }
      const cut = await cutRecords(window, lines, request, file)
      await file.finish()
      if (window.failure !== undefined) throw window.failure
      if (cut === undefined) return await rm(path, { force: true })
      yield chunkOf(cut, { name, path, from, linesBefore, bytes: file.bytes, digest: file.digest })
      linesBefore += cut.lines
    }
  } finally {
    await window.close()
  }
}

interface CutFile {
  readonly name: string
  readonly path: string
  readonly from: number
  readonly linesBefore: number
  readonly bytes: number
  readonly digest: string
}

function chunkOf(cut: Cut, { name, path, from, linesBefore, bytes, digest }: CutFile): Chunk {
  const visit = async <T>(
    wanted: readonly number[],
    take: (record: Buffer, source: RecordSource) => T,
  ): Promise<T[]> => {
    const taken: T[] = []
    const layout = { from, linesBefore, excluded: cut.excluded }
    await visitRecords(
      () => openFile(path),
      lines,
      layout,
      wanted,
      (_, record, source) => taken.push(take(record, source)),
    )
    return taken
  }
  return {
    range: { lane: name, from: String(from), to: String(cut.to) },
    origin: name,
    file: path,
    format: { type: 'ndjson' },
    records: cut.records,
    refused: cut.refused,
    bytes,
    digest,
    locate: (ordinals) => visit(ordinals, (_, source) => source),
    raw: (ordinals) => visit(ordinals, (record) => Buffer.from(record)),
    release: () => rm(path, { force: true }),
  }
}

/** Lines of a file that are not blank, by 0-based ordinal, ascending. */
export async function linesOf(path: string, ordinals: readonly number[]): Promise<Buffer[]> {
  const taken: Buffer[] = []
  const layout = { from: 0, linesBefore: 0, excluded: [] }
  await visitRecords(
    () => openFile(path),
    lines,
    layout,
    ordinals,
    (_, record) => taken.push(Buffer.from(record)),
  )
  return taken
}

/** Takes what the stream gives in pieces of any size. */
function byteSource(stream: AsyncIterable<Uint8Array>, name: string): ByteSource {
  const iterator = stream[Symbol.asyncIterator]()
  let rest: Uint8Array = new Uint8Array(0)
  return {
    read: async (target, offset, length) => {
      while (rest.length === 0) {
        const next = await iterator.next().catch((error: unknown) => {
          throw localIoError(error, `read ${name}`)
        })
        if (next.done === true) return 0
        rest = next.value
      }
      const count = Math.min(length, rest.length)
      target.set(rest.subarray(0, count), offset)
      rest = rest.subarray(count)
      return count
    },
    close: async () => {
      await iterator.return?.()
    },
  }
}

async function openFile(path: string): Promise<ByteSource> {
  const handle = await open(path, 'r')
  return {
    read: async (target, offset, length) => (await handle.read(target, offset, length)).bytesRead,
    close: () => handle.close(),
  }
}
