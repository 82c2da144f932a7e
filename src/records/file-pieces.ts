/** A file piece by piece, in buffers that take turns: fresh ones for every piece cost the process a tenth of its time, to collect them. */
import { open } from 'node:fs/promises'

export interface PiecesOptions {
  readonly bytes: number
  /** Two where a piece is done with when the next one is asked for; one more for each that whoever asks may still hold then. */
  readonly buffers: number
}

/** Each is filled while those before are used. */
export async function* filePieces(file: string, { bytes, buffers }: PiecesOptions): AsyncGenerator<Buffer> {
  const handle = await open(file)
  const turns = Array.from({ length: buffers }, () => Buffer.allocUnsafeSlow(bytes))
  const fill = async (turn: number): Promise<Buffer> => {
    const buffer = turns[turn % buffers] as Buffer
    let length = 0
    for (let read = -1; read !== 0 && length < bytes; length += read)
      read = (await handle.read(buffer, length, bytes - length)).bytesRead
    return buffer.subarray(0, length)
  }
  let turn = 0
  let next = fill(turn)
  try {
    for (let piece = await next; piece.length > 0; piece = await next) {
      turn += 1
      next = fill(turn)
      next.catch(() => undefined) // awaited when this piece is on its way
      yield piece
    }
  } finally {
    await next.catch(() => undefined) // the first error tells more
    await handle.close()
  }
}
