/** Collects the first bytes of a record that passes by in pieces. */

/** Of a record that is refused only so much is kept. */
export const RAW_BYTES = 64 << 10

export class RawHead {
  readonly #parts: Buffer[] = []
  #length = 0

  add(bytes: Buffer, from: number, to: number): void {
    const part = bytes.subarray(from, Math.min(to, from + RAW_BYTES - this.#length))
    if (part.length === 0) return
    this.#parts.push(Buffer.from(part))
    this.#length += part.length
  }

  /** At most `length` of them. */
  take(length: number): Buffer {
    return Buffer.concat(this.#parts).subarray(0, length)
  }
}
