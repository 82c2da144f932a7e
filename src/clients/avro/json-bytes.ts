/** JSON as bytes in one buffer that grows up to a limit: nothing is made per value but its bytes. */

const FIRST_BYTES = 64 << 10
const [QUOTE, APOSTROPHE, BACKSLASH, SPACE, DELETE] = [0x22, 0x27, 0x5c, 0x20, 0x7f]
/** `\\\\xDE`. */
const ESCAPED_BYTES = 5
const HEX = Buffer.from('0123456789ABCDEF')

/** More bytes than a record may have. */
export class TooLong extends Error {}

export class JsonBytes {
  bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  length = 0
  /** Beyond this length: TooLong. */
  limit: number

  constructor(limit: number) {
    this.limit = limit
  }

  /** Of ASCII alone. */
  ascii(text: string): void {
    this.#room(text.length)
    this.length += this.bytes.write(text, this.length, 'latin1')
  }

  byte(value: number): void {
    this.#room(1)
    this.bytes[this.length++] = value
  }

  copy(piece: Buffer): void {
    this.#room(piece.length)
    this.length += piece.copy(this.bytes, this.length)
  }

  /** `from[start, end)`, which is UTF-8, as a text. */
  text(from: Buffer, start: number, end: number): void {
    if (!isPlain(from, start, end)) {
      this.copy(Buffer.from(JSON.stringify(from.toString('utf8', start, end))))
      return
    }
    this.#room(end - start + 2)
    this.bytes[this.length++] = QUOTE
    this.length += from.copy(this.bytes, this.length, start, end)
    this.bytes[this.length++] = QUOTE
  }

  /** Bytes as the engine writes a BLOB as text: `\xDE\xAD`, what can be printed as it is. Its cast to BLOB reads it back. */
  blob(from: Buffer, start: number, end: number): void {
    let length = end - start + 2
    for (let at = start; at < end; at += 1) if (!isPrinted(from[at] as number)) length += ESCAPED_BYTES - 1
    this.#room(length)
    this.bytes[this.length++] = QUOTE
    for (let at = start; at < end; at += 1) {
      const byte = from[at] as number
      if (isPrinted(byte)) {
        this.bytes[this.length++] = byte
        continue
      }
      this.bytes[this.length++] = BACKSLASH
      this.bytes[this.length++] = BACKSLASH
      this.bytes[this.length++] = 0x78
      this.bytes[this.length++] = HEX[byte >> 4] as number
      this.bytes[this.length++] = HEX[byte & 15] as number
    }
    this.bytes[this.length++] = QUOTE
  }

  /** @throws TooLong */
  #room(bytes: number): void {
    const wanted = this.length + bytes
    if (wanted > this.limit) throw new TooLong()
    if (wanted <= this.bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, wanted))
    this.bytes.copy(larger, 0, 0, this.length)
    this.bytes = larger
  }
}

/** Stands in the text of a BLOB as it is. */
function isPrinted(byte: number): boolean {
  return byte >= SPACE && byte < DELETE && byte !== QUOTE && byte !== BACKSLASH && byte !== APOSTROPHE
}

/** Stands in JSON as it is. */
function isPlain(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) {
    const byte = bytes[at] as number
    if (byte < SPACE || byte >= DELETE || byte === QUOTE || byte === BACKSLASH) return false
  }
  return true
}
