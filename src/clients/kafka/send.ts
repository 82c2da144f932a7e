/** The records of a batch on their way into a topic: a bounded part of them in memory, the next part made while one is sent. */
import type { BatchInfo } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { partitionOf } from './murmur.ts'
import type { TransactionalProducer } from './producer.ts'
import {
  type Compression,
  HEAD_BYTES,
  type KafkaHeader,
  type KafkaRecord,
  RecordBatch,
  recordBytes,
} from './record-batch.ts'
import { type Frame, frameHeadBytes, framesOf } from './record-file.ts'
import type { RecordParts } from './record-parts.ts'

export interface SendOptions {
  readonly topic: string
  readonly partitions: number
  readonly compression: Compression
  /** Of one record, and of the records that go to one partition at once, before compression. */
  readonly maxMessageBytes: number
  readonly parts: RecordParts
  /** Of every record. `id`: the header that gets the token and the number of the row. */
  readonly fixed: { readonly headers: readonly KafkaHeader[]; readonly id: string | undefined }
  readonly signal: AbortSignal
}

/** Of all partitions together, before they are sent. */
const BUFFERED_BYTES = 4_000_000

/** Sends the records of `file` within the transaction that is open; resolves to how many there were. */
export async function sendRecords(
  producer: TransactionalProducer,
  file: string,
  batch: BatchInfo,
  options: SendOptions,
): Promise<number> {
  const { topic, partitions, compression, maxMessageBytes, parts, signal } = options
  const shape = {
    fields: (parts.key === undefined ? 1 : 2) + parts.headers.length,
    timestamp: parts.timestamp !== undefined,
  }
  const toRecord = recordMaker(batch, options)
  const tooLarge = (row: number, bytes: number) =>
    new AdflowError(
      'STORE_MISMATCH',
      `row ${row + 1} of batch ${batch.token.slice(0, 12)} (${batch.source}, ${batch.range.lane} ${batch.range.from}–${batch.range.to}) makes a record of ${bytes} bytes for ${topic}, and \`max_message\` is ${maxMessageBytes}`,
      { hint: 'take such rows out in a step, or raise `max_message`, and max.message.bytes of the topic' },
    )

  let open = new Map<number, RecordBatch>()
  let buffered = 0
  let rows = 0
  let sending: Promise<void> = Promise.resolve()
  const flush = async () => {
    const full = open
    open = new Map()
    buffered = 0
    await sending
    signal.throwIfAborted()
    sending = producer.send(topic, full, compression)
    sending.catch(ignored)
  }
  // Keyless records fill one partition after the other, beginning at one that depends on the batch.
  let turn = Number.parseInt(batch.token.slice(0, 8), 16) % partitions
  const limit = maxMessageBytes + frameHeadBytes(shape)

  for await (const frames of framesOf(file, shape, { limit, refuse: tooLarge })) {
    for (const frame of frames) {
      const record = toRecord(frame, rows)
      const bytes = recordBytes(record)
      if (HEAD_BYTES + bytes > maxMessageBytes) throw tooLarge(rows, HEAD_BYTES + bytes)
      const partition = record.key === undefined ? turn : partitionOf(record.key, partitions)
      if (buffered + bytes > BUFFERED_BYTES || (open.get(partition)?.bytes ?? HEAD_BYTES) + bytes > maxMessageBytes) {
        await flush()
        turn = (turn + 1) % partitions
      }
      const target = open.get(partition) ?? new RecordBatch()
      open.set(partition, target)
      target.add(record)
      buffered += bytes
      rows += 1
    }
  }
  if (open.size > 0) await flush()
  await sending
  return rows
}

function recordMaker(batch: BatchInfo, { parts, fixed, topic }: SendOptions) {
  const sentMs = Date.now()
  const keyed = parts.key === undefined ? 0 : 1
  const names = parts.headers.map(({ name }) => Buffer.from(name))
  const idName = fixed.id === undefined ? undefined : Buffer.from(fixed.id)
  return ({ fields, timestampMs }: Frame, row: number): KafkaRecord => {
    if (timestampMs !== undefined && !(timestampMs >= 0))
      throw new AdflowError(
        'STORE_MISMATCH',
        `row ${row + 1} of batch ${batch.token.slice(0, 12)} has a \`timestamp\` before 1970, which a record of ${topic} cannot have`,
        { hint: 'make `timestamp` NULL or another one where it is earlier; the columns of the value are not affected' },
      )
    const headers: KafkaHeader[] = [...fixed.headers]
    if (idName !== undefined) headers.push({ name: idName, value: Buffer.from(`${batch.token}-${row}`) })
    for (const [index, name] of names.entries()) {
      const value = fields[1 + keyed + index]
      if (value !== undefined) headers.push({ name, value })
    }
    return {
      key: keyed === 1 ? fields[0] : undefined,
      value: fields[keyed],
      headers,
      timestampMs: timestampMs ?? sentMs,
    }
  }
}

/** Whoever awaits it next is told. */
function ignored(): void {}
