/** The numbers of Avro's binary encoding, read in place. */

/** Bytes that are no value of the schema. Says so, to be put behind "the value". */
export class NotAvro extends Error {}

/** There are fewer bytes than the value needs. */
export class EndsEarly extends NotAvro {}

const [LEAST_INT, MOST_INT] = [-2_147_483_648, 2_147_483_647]
/** So many bytes of seven bits are exact in a number. */
const SHORT = 7
const LONGEST = 10

export class AvroCursor {
  bytes: Buffer
  at: number
  readonly end: number

  constructor(bytes: Buffer, at: number, end: number) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  /** Where the next `count` bytes begin; they are passed over. @throws NotAvro where there are not so many. */
  take(count: number): number {
    const from = this.at
    if (count < 0) throw new NotAvro('has a length below zero')
    if (count > this.end - from) throw new EndsEarly('ends too early')
    this.at = from + count
    return from
  }

  byte(): number {
    return this.bytes[this.take(1)] as number
  }

  int(): number {
    const value = this.long()
    if (value < LEAST_INT || value > MOST_INT) throw new NotAvro('has an int of more than 32 bits')
    return Number(value)
  }

  /** A length, a count or an index: no more than memory could hold. */
  size(): number {
    const value = this.long()
    if (typeof value === 'bigint') throw new NotAvro('has a length beyond all reason')
    return value
  }

  /** A bigint where a number may not be exact. */
  long(): number | bigint {
    const { bytes, end } = this
    let value = 0
    let scale = 1
    for (let at = this.at, count = 0; count < SHORT && at < end; count += 1) {
      const byte = bytes[at++] as number
      value += (byte & 127) * scale
      if (byte < 128) {
        this.at = at
        return value % 2 === 0 ? value / 2 : -(value + 1) / 2
      }
      scale *= 128
    }
    return this.#big()
  }

  #big(): bigint {
    let value = 0n
    for (let count = 0; count < LONGEST; count += 1) {
      const byte = this.byte()
      value |= BigInt(byte & 127) << BigInt(7 * count)
      if (byte >= 128) continue
      if (value >> 64n !== 0n) break
      return (value >> 1n) ^ -(value & 1n)
    }
    throw new NotAvro('has a number of more than 64 bits')
  }
}

/** Two's complement, the highest byte first. */
export function signed(bytes: Buffer, from: number, to: number): bigint {
  if (from === to) return 0n
  const value = BigInt(`0x${bytes.toString('hex', from, to)}`)
  return (bytes[from] as number) < 128 ? value : value - (1n << BigInt(8 * (to - from)))
}

/** `-12.30` of -1230 and the scale 2. */
export function decimalText(unscaled: bigint, scale: number): string {
  const sign = unscaled < 0n ? '-' : ''
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0')
  return scale === 0 ? sign + digits : `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}
