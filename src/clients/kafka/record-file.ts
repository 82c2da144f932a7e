/**
 * The records of a batch in a file, as the engine wrote them, one after the other: the length of each field plus one as
 * eight hexadecimal digits (0: NULL), the timestamp as sixteen characters where there is one, and the bytes of the fields.
 * Read in pieces; a record is looked at as bytes only.
 */
import { open } from 'node:fs/promises'
import type { PieceBuffers } from '../../records/piece-buffers.ts'

export interface FrameShape {
  readonly fields: number
  readonly timestamp: boolean
}

export interface Frame {
  /** undefined: NULL. Valid until the next piece is read. */
  readonly fields: readonly (Buffer | undefined)[]
  readonly timestampMs: number | undefined
}

const LENGTH_DIGITS = 8
const TIMESTAMP_CHARACTERS = 16

export interface FrameOptions {
  /** Most bytes of a frame. */
  readonly limit: number
  /** Makes the error of a frame that has more, before it is read. */
  readonly refuse: (frame: number, bytes: number) => Error
  readonly buffers: PieceBuffers
}

/** Whole frames, piece by piece: what a turn of the outer loop yields is in memory, and no more. */
export async function* framesOf(
  file: string,
  shape: FrameShape,
  { limit, refuse, buffers }: FrameOptions,
): AsyncGenerator<Iterable<Frame>> {
  const handle = await open(file, 'r')
  let bytes = buffers.take()
  let end = 0
  let seen = 0
  try {
    for (;;) {
      const { bytesRead } = await handle.read(bytes, end, bytes.length - end)
      if (bytesRead === 0) break
      end += bytesRead
      let at = 0
      yield (function* () {
        for (;;) {
          const size = frameBytes(bytes, at, end, shape)
          if (size === undefined) return
          if (size > limit) throw refuse(seen, size)
          if (at + size > end) return
          yield frameAt(bytes, at, shape)
          at += size
          seen += 1
        }
      })()
      // A frame that fills the buffer needs a larger one.
      const larger = at === 0 && end === bytes.length ? Buffer.allocUnsafeSlow(bytes.length * 2) : bytes
      bytes.copy(larger, 0, at, end)
      bytes = larger
      end -= at
    }
    if (end > 0) throw new Error(`${file} ends in the middle of a record`)
  } finally {
    buffers.give(bytes)
    await handle.close()
  }
}

/** Of a frame without its fields. */
export function frameHeadBytes({ fields, timestamp }: FrameShape): number {
  return fields * LENGTH_DIGITS + (timestamp ? TIMESTAMP_CHARACTERS : 0)
}

/** undefined: the head of the frame is not all there. */
function frameBytes(bytes: Buffer, at: number, end: number, shape: FrameShape): number | undefined {
  const head = frameHeadBytes(shape)
  if (at + head > end) return undefined
  let size = head
  for (let field = 0; field < shape.fields; field += 1)
    size += Math.max(0, hexadecimal(bytes, at + field * LENGTH_DIGITS) - 1)
  return size
}

function frameAt(bytes: Buffer, at: number, shape: FrameShape): Frame {
  const fields: (Buffer | undefined)[] = []
  let from = at + frameHeadBytes(shape)
  for (let field = 0; field < shape.fields; field += 1) {
    const length = hexadecimal(bytes, at + field * LENGTH_DIGITS) - 1
    fields.push(length < 0 ? undefined : bytes.subarray(from, from + length))
    from += Math.max(0, length)
  }
  if (!shape.timestamp) return { fields, timestampMs: undefined }
  const place = at + shape.fields * LENGTH_DIGITS
  const text = bytes.toString('latin1', place, place + TIMESTAMP_CHARACTERS).trim()
  return { fields, timestampMs: text === '' ? undefined : Number(text) }
}

function hexadecimal(bytes: Buffer, at: number): number {
  let value = 0
  for (let digit = 0; digit < LENGTH_DIGITS; digit += 1) {
    const code = bytes[at + digit] ?? 0
    value = value * 16 + (code <= 0x39 ? code - 0x30 : code - 0x57)
  }
  return value
}
