/** Splits fetched bytes into record batches: those that hold records which count, checked against their sums. */
import { AdflowError } from '../../core/errors.ts'
import type { KafkaLibrary } from './cluster.ts'
import type { FetchAnswer } from './fetch.ts'

export interface LogBatch {
  readonly base: bigint
  readonly last: bigint
  /** Records in it; after compaction fewer than there are offsets. */
  readonly count: number
  /** Milliseconds since the epoch, to which each record's own is relative. */
  readonly firstMs: number
  /** Set where the broker's clock counts: the timestamp of each record. */
  readonly appendedMs: number | undefined
  /** 0: none. */
  readonly codec: number
  /** As they came, compressed. */
  readonly records: Buffer
}

export interface LogPart {
  readonly batches: readonly LogBatch[]
  /** Offset after the last batch, whether it counts or not; undefined: there was none. */
  readonly next: bigint | undefined
}

const HEAD_BYTES = 61
const AT = {
  length: 8,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastDelta: 23,
  firstMs: 27,
  maxMs: 35,
  producer: 43,
  count: 57,
}
const LENGTH_END = 12
const CODECS = 0b111
const APPEND_TIME = 1 << 3
const TRANSACTIONAL = 1 << 4
const CONTROL = 1 << 5

/**
 * `committed`: what belongs to a transaction that was aborted does not count, by the list of the broker; nor, ever, do the
 * markers that end transactions. `from`: batches that end before it are passed over: a broker gives whole batches.
 */
export function logPart(
  { aborted, bytes }: Pick<FetchAnswer, 'aborted' | 'bytes'>,
  { from, committed, origin }: { readonly from: bigint; readonly committed: boolean; readonly origin: string },
  { crc32c }: Pick<KafkaLibrary, 'crc32c'>,
): LogPart {
  const batches: LogBatch[] = []
  const aborting = new Set<bigint>()
  let waiting = 0
  let next: bigint | undefined
  for (let at = 0; at + HEAD_BYTES <= bytes.length; ) {
    const end = at + LENGTH_END + bytes.readInt32BE(at + AT.length)
    if (end > bytes.length) break
    const base = bytes.readBigInt64BE(at)
    if (bytes[at + AT.magic] !== 2) throw oldFormat(origin, base)
    if (end < at + HEAD_BYTES) throw damaged(origin, base, 'has a length that cannot be')
    if (crc32c(bytes.subarray(at + AT.attributes, end)) >>> 0 !== bytes.readUInt32BE(at + AT.crc))
      throw damaged(origin, base, 'does not agree with its checksum')
    const attributes = bytes.readInt16BE(at + AT.attributes)
    const last = base + BigInt(bytes.readInt32BE(at + AT.lastDelta))
    const producer = bytes.readBigInt64BE(at + AT.producer)
    for (let own = aborted[waiting]; own !== undefined && own.firstOffset <= last; own = aborted[waiting]) {
      aborting.add(own.producerId)
      waiting += 1
    }
    next = last + 1n
    if ((attributes & CONTROL) !== 0) aborting.delete(producer)
    else if (last >= from && !(committed && (attributes & TRANSACTIONAL) !== 0 && aborting.has(producer)))
      batches.push({
        ...{ base, last, count: bytes.readInt32BE(at + AT.count), codec: attributes & CODECS },
        firstMs: Number(bytes.readBigInt64BE(at + AT.firstMs)),
        appendedMs: (attributes & APPEND_TIME) === 0 ? undefined : Number(bytes.readBigInt64BE(at + AT.maxMs)),
        records: bytes.subarray(at + HEAD_BYTES, end),
      })
    at = end
  }
  return { batches, next }
}

export function damaged(origin: string, offset: bigint, found: string): AdflowError {
  return new AdflowError('SOURCE_DAMAGED', `the record batch at offset ${offset} of ${origin} ${found}`, {
    hint: 'see whether a replica has it whole (kafka-dump-log.sh), and make that one the leader',
  })
}

function oldFormat(origin: string, offset: bigint): AdflowError {
  return new AdflowError(
    'SOURCE_UNSUPPORTED',
    `${origin} has records of the format before Kafka 0.11 at offset ${offset}`,
    {
      hint: 'copy the topic with a client of today, which writes record batches',
    },
  )
}
