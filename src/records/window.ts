/** A moving window over a stream of bytes: one buffer per reader, reused; it grows only when one record needs it. */

/** Forward reading of (decompressed) source bytes. */
export interface ByteSource {
  /** Reads the next bytes into `target` at `offset`; 0 at the end. Throws AdflowError where the source is damaged. */
  read(target: Buffer, offset: number, length: number): Promise<number>
  close(): Promise<void>
}

/** Small enough that a piece is still in the CPU's cache when it is counted, summed and written. */
export const PIECE_BYTES = 1 << 20

export class Window {
  bytes: Buffer
  /** `bytes[start, end)` is what was read and not yet consumed. */
  start = 0
  end = 0
  /** Offset in the source of `bytes[start]`. */
  position: number
  /** The source has no more bytes. */
  ended = false
  /** Why the source ended early; every byte before it was delivered. */
  failure: unknown
  readonly #source: ByteSource
  readonly #signal: AbortSignal | undefined
  #lent = false
  /** Takes turns with `bytes` where these are lent. */
  #spare: Buffer | undefined

  /** `bytes`: to be filled, nobody else's; a larger one takes its place where a record needs it. `spare`: as large, for lend(). */
  constructor(
    source: ByteSource,
    position: number,
    signal?: AbortSignal,
    bytes: Buffer = Buffer.allocUnsafeSlow(PIECE_BYTES),
    spare?: Buffer,
  ) {
    this.#spare = spare
    this.#source = source
    this.#signal = signal
    this.position = position
    this.bytes = bytes
  }

  get length(): number {
    return this.end - this.start
  }

  /** Offset in the source of the first byte that was not read yet. */
  get reach(): number {
    return this.position + this.length
  }

  /** Reads one piece more, at most `limit` bytes. 0: the source has ended or failed. Moves `start`. */
  async fill(limit: number): Promise<number> {
    this.#signal?.throwIfAborted()
    if (this.ended || limit <= 0) return 0
    this.#makeRoom()
    const room = Math.min(limit, this.bytes.length - this.end)
    let count = 0
    try {
      count = await this.#source.read(this.bytes, this.end, room)
    } catch (error) {
      this.failure = error
    }
    this.end += count
    this.ended = count === 0
    return count
  }

  consume(count: number): void {
    this.start += count
    this.position += count
  }

  /** Somebody reads what was consumed: the next piece is read into another buffer, and the one after it into this one again. */
  lend(): void {
    this.#lent = true
  }

  /** Gives up what was consumed since `position`; the window holds nothing then, and its source is used up. */
  rewindTo(position: number): void {
    this.start = this.end
    this.position = position
    this.ended = true
  }

  close(): Promise<void> {
    return this.#source.close()
  }

  #makeRoom(): void {
    const { length } = this
    if (this.start > 0) {
      const { bytes } = this
      if (this.#lent) {
        this.bytes = this.#spare?.length === bytes.length ? this.#spare : Buffer.allocUnsafeSlow(bytes.length)
        this.#spare = bytes
        this.#lent = false
      }
      bytes.copy(this.bytes, 0, this.start, this.end)
      this.start = 0
      this.end = length
    }
    // In proportion to what is held: a record of n bytes is copied, and scanned again, O(n) in all.
    if (this.bytes.length - length < Math.max(Math.min(PIECE_BYTES, this.bytes.length) >> 2, length >> 2)) {
      const larger = Buffer.allocUnsafeSlow(Math.ceil(this.bytes.length * 1.5))
      this.bytes.copy(larger, 0, 0, length)
      this.bytes = larger
    } else if (this.bytes.length > PIECE_BYTES && length * 8 < PIECE_BYTES) {
      const smaller = Buffer.allocUnsafeSlow(PIECE_BYTES)
      this.bytes.copy(smaller, 0, 0, length)
      this.bytes = smaller
    }
  }
}
