/** Decompresses the records of a batch, within a limit: what a producer sends may expand a thousandfold. */
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { AdflowError } from '../../core/errors.ts'
import type { KafkaLibrary } from './cluster.ts'
import { damaged, type LogBatch } from './log-batches.ts'

/** No block of either format expands further. */
const MOST_RATIO = 255
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])
const XERIAL_HEAD_BYTES = 16
const [GZIP, SNAPPY, ZSTD] = [1, 2, 4]
const LEAST_PIECE = 16_384
/** Of JSON, where the frame does not say. */
const GUESSED_RATIO = 10
const TOO_LARGE = 'ERR_BUFFER_TOO_LARGE'

/** @throws AdflowError SOURCE_BOMB beyond `maxBytes`, SOURCE_DAMAGED where the bytes are not what the batch says */
export function unpacked(
  { base, codec, records }: LogBatch,
  { maxBytes, origin }: { readonly maxBytes: number; readonly origin: string },
  { compressionsAlgorithmsByBitmask }: KafkaLibrary,
): Buffer {
  if (codec === 0) return records
  const algorithm = compressionsAlgorithmsByBitmask[codec]
  if (algorithm === undefined) throw damaged(origin, base, `has an unknown compression (${codec})`)
  try {
    if (codec === GZIP) return gunzipSync(records, piecesOf(records.length, gzipBytes(records), maxBytes))
    if (codec === ZSTD) return zstdDecompressSync(records, piecesOf(records.length, zstdBytes(records), maxBytes))
    const claimed = codec === SNAPPY ? snappyBytes(records) : records.length * MOST_RATIO
    // Only where it may be too large is it worth another look.
    if (claimed > maxBytes && (codec === SNAPPY || records.length > maxBytes / 4)) throw bomb(origin, base, maxBytes)
    const found = algorithm.decompressSync(records)
    if (found.length > maxBytes) throw bomb(origin, base, maxBytes)
    return found
  } catch (error) {
    if (error instanceof AdflowError) throw error
    if ((error as NodeJS.ErrnoException).code === TOO_LARGE) throw bomb(origin, base, maxBytes)
    throw damaged(origin, base, `cannot be decompressed: ${(error as Error).message}`)
  }
}

/** One piece where the size is known: many small ones would cost more than what is done to them. */
function piecesOf(
  compressed: number,
  bytes: number | undefined,
  maxBytes: number,
): { maxOutputLength: number; chunkSize: number } {
  const chunkSize = Math.max(LEAST_PIECE, Math.min(maxBytes, (bytes ?? compressed * GUESSED_RATIO) + 1))
  return { maxOutputLength: maxBytes, chunkSize }
}

/** As it stands at the end; of several members that of the last. */
function gzipBytes(records: Buffer): number | undefined {
  return records.length < 4 ? undefined : records.readUInt32LE(records.length - 4)
}

/** As the head of the frame has it, where it does. */
function zstdBytes(records: Buffer): number | undefined {
  if (records.length < 18) return undefined
  const head = records[4] as number
  const isSingle = (head & 0x20) !== 0
  const at = 5 + (isSingle ? 0 : 1) + ([0, 1, 2, 4][head & 3] as number)
  const size = head >> 6
  if (size === 0) return isSingle ? records[at] : undefined
  if (size === 1) return records.readUInt16LE(at) + 256
  return size === 2 ? records.readUInt32LE(at) : Number(records.readBigUInt64LE(at))
}

/** What it says of itself; of the framing of Java's library, block by block. */
function snappyBytes(records: Buffer): number {
  if (!records.subarray(0, XERIAL.length).equals(XERIAL)) return leadingVarint(records)
  let bytes = 0
  for (let at = XERIAL_HEAD_BYTES; at + 4 < records.length; at += 4 + records.readUInt32BE(at))
    bytes += leadingVarint(records.subarray(at + 4))
  return bytes
}

function leadingVarint(bytes: Buffer): number {
  let value = 0
  let scale = 1
  for (const byte of bytes.subarray(0, 5)) {
    value += (byte & 127) * scale
    if (byte < 128) break
    scale *= 128
  }
  return value
}

function bomb(origin: string, offset: bigint, maxBytes: number): AdflowError {
  return new AdflowError(
    'SOURCE_BOMB',
    `the record batch at offset ${offset} of ${origin} is larger than ${maxBytes} bytes when it is decompressed`,
    { hint: 'raise `max_batch` where such batches are meant' },
  )
}
