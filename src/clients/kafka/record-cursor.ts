/** Walks the records of a decompressed batch in place: one object for all of them, none per record or field. */

export class RecordCursor {
  offsetDelta = 0
  timestampDelta = 0
  keyAt = 0
  /** -1: null. */
  keyBytes = -1
  valueAt = 0
  /** -1: null, a tombstone. */
  valueBytes = -1
  /** Where the number of headers stands. */
  headersAt = 0
  /** Behind the record. */
  end = 0
  bytes: Buffer
  #at = 0
  #left: number

  constructor(bytes: Buffer, count: number) {
    this.bytes = bytes
    this.#left = count
  }

  /** false: that was the last one. Throws RangeError where lengths lead out of the record. */
  next(): boolean {
    if (this.#left === 0) return false
    this.#left -= 1
    this.#at = this.end
    const length = this.#varint()
    const end = this.#at + length
    if (length < 0 || end > this.bytes.length) throw outside()
    this.#at += 1
    this.timestampDelta = this.#varint()
    this.offsetDelta = this.#varint()
    this.keyBytes = this.#varint()
    this.keyAt = this.#at
    if (this.keyBytes > 0) this.#at += this.keyBytes
    this.valueBytes = this.#varint()
    this.valueAt = this.#at
    if (this.valueBytes > 0) this.#at += this.valueBytes
    if (this.#at > end) throw outside()
    this.headersAt = this.#at
    this.end = end
    return true
  }

  /** Name and value of each header, in order; a value may be null. */
  headers(): { readonly name: Buffer; readonly value: Buffer | null }[] {
    this.#at = this.headersAt
    const count = this.#varint()
    if (count < 0 || count > this.end - this.headersAt) throw outside()
    const found: { name: Buffer; value: Buffer | null }[] = []
    for (let header = 0; header < count; header += 1)
      found.push({ name: this.#field() ?? Buffer.alloc(0), value: this.#field() })
    return found
  }

  #field(): Buffer | null {
    const length = this.#varint()
    if (length < 0) return null
    const from = this.#at
    this.#at += length
    if (this.#at > this.end) throw outside()
    return this.bytes.subarray(from, this.#at)
  }

  /** Zigzag; up to 2^53 exact, which timestamps and lengths do not reach. */
  #varint(): number {
    const { bytes } = this
    let byte = bytes[this.#at++] as number
    if (byte < 128) return (byte >>> 1) ^ -(byte & 1)
    let value = byte & 127
    let scale = 128
    do {
      byte = bytes[this.#at++] as number
      value += (byte & 127) * scale
      scale *= 128
    } while (byte > 127)
    // A place behind the end reads as undefined: no number comes of it.
    if (Number.isNaN(value)) throw outside()
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }
}

function outside(): RangeError {
  return new RangeError('a length leads out of the record')
}
