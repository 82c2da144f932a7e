/**
 * What a socket reads, in two buffers that are kept, for whoever takes each piece as it comes and keeps nothing of it. Node would make a new
 * buffer for each, outside of its heap, which costs more to collect than to fill.
 */
import type { OnReadOpts, Socket } from 'node:net'

const READ_BYTES = 128 << 10
const MOST_FREE = 16

/** Option `onread` of a connection: of one, since the buffers are its own. */
export function keptReads(): OnReadOpts {
  let [filled, spare] = [make(), make()]
  const callback = function (this: Socket, bytes: number): boolean {
    // What nobody has taken yet lies in the buffer before, perhaps for long: it belongs to its reader now.
    if (this.readableLength > 0) spare = make()
    const piece = filled.subarray(0, bytes)
    ;[filled, spare] = [spare, filled]
    return this.push(piece)
  }
  return { buffer: () => filled, callback } as unknown as OnReadOpts
}

/**
 * The same for whoever cannot take a piece at once: a buffer is read into again when all that was read into it has been taken. What is not given back
 * belongs to its reader.
 */
export class ReadBuffers {
  readonly #free: Buffer[] = []
  /** How much was read into what is out. */
  readonly #filled = new WeakMap<ArrayBufferLike, number>()

  /** Option `onread` of a connection: of one. */
  onread(): OnReadOpts {
    let current: Buffer = Buffer.alloc(0)
    const buffer = () => {
      current = this.#free.pop() ?? make()
      return current
    }
    const filled = this.#filled
    const callback = function (this: Socket, bytes: number): boolean {
      filled.set(current.buffer, bytes)
      return this.push(current.subarray(0, bytes))
    }
    return { buffer, callback } as unknown as OnReadOpts
  }

  /** Nobody looks at the piece any more. Of a read that came as several pieces none is known to be the last: its buffer is not used again. */
  give(piece: Buffer): void {
    if (piece.byteOffset > 0 || this.#filled.get(piece.buffer) !== piece.length) return
    this.#filled.delete(piece.buffer)
    if (this.#free.length < MOST_FREE) this.#free.push(Buffer.from(piece.buffer))
  }
}

function make(): Buffer {
  return Buffer.allocUnsafeSlow(READ_BYTES)
}
