/**
 * Records as Kafka keeps them (record batch, format 2), written as bytes into one buffer: no object per record, none per
 * field. What differs from one attempt to the next (producer, sequence) is filled in at the end.
 */
import type { KafkaLibrary } from './cluster.ts'

export interface KafkaRecord {
  readonly key: Uint8Array | undefined
  /** undefined: a tombstone. */
  readonly value: Uint8Array | undefined
  readonly headers: readonly KafkaHeader[]
  /** Milliseconds since the epoch; not negative. */
  readonly timestampMs: number
}

export interface KafkaHeader {
  readonly name: Uint8Array
  readonly value: Uint8Array
}

export interface ProducerIdentity {
  readonly producerId: bigint
  readonly producerEpoch: number
}

export type Compression = 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd'

/** Of a batch without records. */
export const HEAD_BYTES = 61
const FIRST_BYTES = 16_384
/** Of a record beside its bytes: lengths, attributes, offset, timestamp. */
const RECORD_EXTRA_BYTES = 40
const HEADER_EXTRA_BYTES = 10
const TRANSACTIONAL = 1 << 4
const AT = { length: 8, epoch: 12, magic: 16, crc: 17, attributes: 21, records: 57 } as const

/** Bytes that a record takes in a batch, at most. */
export function recordBytes({ key, value, headers }: KafkaRecord): number {
  let bytes = RECORD_EXTRA_BYTES + (key?.length ?? 0) + (value?.length ?? 0)
  for (const header of headers) bytes += HEADER_EXTRA_BYTES + header.name.length + header.value.length
  return bytes
}

export class RecordBatch {
  records = 0
  #buffer = Buffer.allocUnsafe(FIRST_BYTES)
  #end = HEAD_BYTES
  #firstMs = 0
  #lastMs = 0

  /** As they are now, before compression. */
  get bytes(): number {
    return this.#end
  }

  add(record: KafkaRecord): void {
    const { key, value, headers, timestampMs } = record
    this.#makeRoom(recordBytes(record))
    if (this.records === 0) this.#firstMs = timestampMs
    this.#lastMs = Math.max(this.#lastMs, timestampMs)
    const delta = timestampMs - this.#firstMs
    let length = 1 + varintBytes(delta) + varintBytes(this.records) + fieldBytes(key) + fieldBytes(value)
    length += varintBytes(headers.length)
    for (const header of headers) length += fieldBytes(header.name) + fieldBytes(header.value)
    this.#varint(length)
    this.#buffer[this.#end++] = 0
    this.#varint(delta)
    this.#varint(this.records)
    this.#field(key)
    this.#field(value)
    this.#varint(headers.length)
    for (const header of headers) {
      this.#field(header.name)
      this.#field(header.value)
    }
    this.records += 1
  }

  /** The whole batch, as a part of a transaction. Takes no more records after this. */
  async finish(
    { crc32c, compressionsAlgorithms }: KafkaLibrary,
    { producerId, producerEpoch }: ProducerIdentity,
    sequence: number,
    compression: Compression,
  ): Promise<Buffer> {
    let batch = this.#buffer.subarray(0, this.#end)
    let attributes = TRANSACTIONAL
    if (compression !== 'none') {
      const algorithm = compressionsAlgorithms[compression]
      const plain = batch.subarray(HEAD_BYTES)
      const packed = 'compress' in algorithm ? await algorithm.compress(plain) : algorithm.compressSync(plain)
      // What does not become smaller goes as it is: it must not pass the limit of the topic by its compression.
      if (packed.length < plain.length) {
        batch = Buffer.concat([batch.subarray(0, HEAD_BYTES), packed])
        attributes |= algorithm.bitmask
      }
    }
    batch.writeBigInt64BE(0n, 0)
    batch.writeInt32BE(batch.length - AT.epoch, AT.length)
    batch.writeInt32BE(-1, AT.epoch)
    batch.writeInt8(2, AT.magic)
    let at = batch.writeInt16BE(attributes, AT.attributes)
    at = batch.writeInt32BE(this.records - 1, at)
    at = batch.writeBigInt64BE(BigInt(this.#firstMs), at)
    at = batch.writeBigInt64BE(BigInt(this.#lastMs), at)
    at = batch.writeBigInt64BE(producerId, at)
    at = batch.writeInt16BE(producerEpoch, at)
    at = batch.writeInt32BE(sequence, at)
    batch.writeInt32BE(this.records, at)
    batch.writeUInt32BE(crc32c(batch.subarray(AT.attributes)) >>> 0, AT.crc)
    return batch
  }

  #makeRoom(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#end + bytes))
    this.#buffer.copy(larger, 0, 0, this.#end)
    this.#buffer = larger
  }

  #field(bytes: Uint8Array | undefined): void {
    this.#varint(bytes?.length ?? -1)
    if (bytes === undefined) return
    this.#buffer.set(bytes, this.#end)
    this.#end += bytes.length
  }

  #varint(value: number): void {
    let left = zigzag(value)
    for (; left > 127; left = Math.floor(left / 128)) this.#buffer[this.#end++] = (left % 128) | 128
    this.#buffer[this.#end++] = left
  }
}

function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value
}

function varintBytes(value: number): number {
  let bytes = 1
  for (let left = zigzag(value); left > 127; left = Math.floor(left / 128)) bytes += 1
  return bytes
}

function fieldBytes(bytes: Uint8Array | undefined): number {
  return varintBytes(bytes?.length ?? -1) + (bytes?.length ?? 0)
}
