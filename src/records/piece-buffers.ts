/** Buffers of one size that serve piece after piece: memory outside of the heap that is new for each costs more to collect than to fill. */
import { PIECE_BYTES } from './window.ts'

/** A window, what is written, and what is filled meanwhile. */
const MOST_KEPT = 4

export class PieceBuffers {
  readonly #own: readonly Buffer[]
  readonly #free: Buffer[]

  /** `own`: buffers of PIECE_BYTES that are used before others are made. */
  constructor(own: readonly Buffer[] = []) {
    this.#own = own
    this.#free = [...own]
  }

  take(bytes = PIECE_BYTES): Buffer {
    if (bytes > PIECE_BYTES) return Buffer.allocUnsafeSlow(bytes)
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES)
  }

  /** A buffer that was taken, or its beginning, which nobody reads or writes any more. */
  give({ buffer, byteOffset }: Buffer): void {
    const own = this.#own.find((one) => one.buffer === buffer && one.byteOffset === byteOffset)
    if (own !== undefined) this.#free.push(own)
    // Where there are own ones, others must not take their place.
    else if (this.#own.length === 0 && buffer.byteLength === PIECE_BYTES && this.#free.length < MOST_KEPT)
      this.#free.push(Buffer.from(buffer))
  }
}
