/** A piece of a file of NDJSON, cut as cutRecords() cuts it, in one thread that waits for the disk itself: what it reads stays in the cache of its core. */
import { readSync } from 'node:fs'
import { AdflowError } from '../core/errors.ts'
import { ChunkFile } from './chunk-file.ts'
import { compiledMemory } from './compiled.ts'
import { type Cut, type CutRequest, cutRecords } from './cut.ts'
import { objectLines } from './lines.ts'
import { PlainIntegers } from './plain-integers.ts'
import { type ByteSource, Window } from './window.ts'

const READ_BYTES = 512 << 10

export interface PieceRequest extends Pick<CutRequest, 'target' | 'settled' | 'maxRecordBytes' | 'origin'> {
  /** Of the process, open for as long as this takes. */
  readonly descriptor: number
  /** Where a record begins. */
  readonly from: number
  /** Of the file, as it is known. */
  readonly bytes: number
  /** See ReadContext. */
  readonly integers: readonly string[]
  /** The file that is made. Without it the piece is only counted and summed. */
  readonly into: string | undefined
}

export interface Piece extends Pick<Cut, 'to' | 'records' | 'lines'> {
  readonly bytes: number
  readonly digest: string
  /** See Chunk. */
  readonly integers: readonly string[] | undefined
}

let memory: ReturnType<typeof compiledMemory> | undefined

/** undefined, and no file: there is no complete record, or one that must not reach the engine, or not all of the file. Blocks its thread. */
export async function cutPiece(request: PieceRequest): Promise<Piece | undefined> {
  const { from, target, settled, maxRecordBytes, origin, into } = request
  const integers = new PlainIntegers(request.integers)
  const file = new ChunkFile(into, 'blocking')
  memory ??= compiledMemory(0, 1)
  const window = new Window(bytesOf(request), from, undefined, memory.buffers[0])
  const order = { target, exact: false, settled, linesBefore: 0, maxRecordBytes, origin, integers }
  try {
    const cut = await cutRecords(window, objectLines(nothing), order, file)
    if (cut !== undefined && cut.refused.length + cut.excluded.length === 0 && window.failure === undefined) {
      await file.finish()
      const { to, records, lines } = cut
      const { bytes, digest } = file
      return { to, records, lines, bytes, digest, integers: integers.plain ? integers.keys : undefined }
    }
  } catch (error) {
    await file.discard()
    throw error
  }
  await file.discard()
  return undefined
}

/** What cannot be read whoever comes next finds out. */
function bytesOf({ descriptor, from, bytes, origin }: PieceRequest): ByteSource {
  let at = from
  return {
    read: async (target, offset, length) => {
      const wanted = Math.min(length, READ_BYTES, bytes - at)
      const count = wanted > 0 ? readSync(descriptor, target, offset, wanted, at) : 0
      if (count === 0 && at < bytes) throw new AdflowError('SOURCE_CHANGED', `${origin} ends at byte ${at}`)
      at += count
      return count
    },
    close: async () => undefined,
  }
}

/** Of what is refused nothing is kept. */
function nothing(): string {
  return ''
}
