/**
 * What a socket reads, in two buffers that are kept, for whoever takes each piece as it comes and keeps nothing of it. Node would make a new
 * buffer for each, outside of its heap, which costs more to collect than to fill.
 */
import type { OnReadOpts, Socket } from 'node:net'

const READ_BYTES = 128 << 10

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

function make(): Buffer {
  return Buffer.allocUnsafeSlow(READ_BYTES)
}
