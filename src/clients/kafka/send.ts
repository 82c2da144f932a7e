/** The records of a transaction on their way into a topic: a bounded part of them in memory, the next part made while one is sent. */
import type { BatchInfo } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { PieceBuffers } from '../../records/piece-buffers.ts'
import type { FixedHeaders } from './event-headers.ts'
import { partitionOf } from './murmur.ts'
import type { Outgoing, TransactionalProducer } from './producer.ts'
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
  readonly buffers: PieceBuffers
}

/** A batch whose records the engine has written. */
export interface WrittenBatch {
  readonly batch: BatchInfo
  readonly file: string
  readonly parts: RecordParts
  /** Of every record. */
  readonly fixed: FixedHeaders
  readonly signal: AbortSignal
}

/** Of all partitions together, before they are sent. */
const BUFFERED_BYTES = 4_000_000

export class TransactionRecords {
  readonly #producer: TransactionalProducer
  readonly #options: SendOptions
  #open = new Map<number, RecordBatch>()
  #buffered = 0
  #sending: Promise<void> = Promise.resolve()

  constructor(producer: TransactionalProducer, options: SendOptions) {
    this.#producer = producer
    this.#options = options
  }

  /** Resolves to how many records the file has. The last of them wait for more, or for finish(). */
  async add({ batch, file, parts, fixed, signal }: WrittenBatch): Promise<number> {
    const { maxMessageBytes, partitions, topic, buffers } = this.#options
    const shape = {
      fields: (parts.key === undefined ? 1 : 2) + parts.headers.length,
      timestamp: parts.timestamp !== undefined,
    }
    const toRecord = recordMaker(batch, parts, fixed, topic)
    const refuse = (row: number, bytes: number) => this.#tooLarge(batch, row, bytes)
    // Keyless records fill one partition after the other, beginning at one that depends on the batch.
    let turn = Number.parseInt(batch.token.slice(0, 8), 16) % partitions
    let rows = 0
    const limit = maxMessageBytes + frameHeadBytes(shape)
    for await (const frames of framesOf(file, shape, { limit, refuse, buffers })) {
      for (const frame of frames) {
        const record = toRecord(frame, rows)
        const bytes = recordBytes(record)
        if (HEAD_BYTES + bytes > maxMessageBytes) throw refuse(rows, HEAD_BYTES + bytes)
        const partition = record.key === undefined ? turn : partitionOf(record.key, partitions)
        if (this.#isFull(partition, bytes)) {
          await this.#flush(signal)
          turn = (turn + 1) % partitions
        }
        const target = this.#open.get(partition) ?? new RecordBatch()
        this.#open.set(partition, target)
        target.add(record)
        this.#buffered += bytes
        rows += 1
      }
    }
    return rows
  }

  /** What is left, in one request with `last`. Resolved: every replica has all of it. */
  async finish(last: Outgoing): Promise<void> {
    const { topic, compression } = this.#options
    await this.#sending
    const rest = this.#open.size === 0 ? [] : [{ topic, batches: this.#open, compression }]
    await this.#producer.send([...rest, last])
  }

  #isFull(partition: number, more: number): boolean {
    const own = this.#open.get(partition)?.bytes ?? HEAD_BYTES
    return this.#buffered + more > BUFFERED_BYTES || own + more > this.#options.maxMessageBytes
  }

  async #flush(signal: AbortSignal): Promise<void> {
    const { topic, compression } = this.#options
    const batches = this.#open
    this.#open = new Map()
    this.#buffered = 0
    await this.#sending
    signal.throwIfAborted()
    this.#sending = this.#producer.send([{ topic, batches, compression }])
    this.#sending.catch(ignored)
  }

  #tooLarge({ token, source, range }: BatchInfo, row: number, bytes: number): AdflowError {
    const { topic, maxMessageBytes } = this.#options
    return new AdflowError(
      'STORE_MISMATCH',
      `row ${row + 1} of batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) makes a record of ${bytes} bytes for ${topic}, and \`max_message\` is ${maxMessageBytes}`,
      { hint: 'take such rows out in a step, or raise `max_message`, and max.message.bytes of the topic' },
    )
  }
}

function recordMaker(batch: BatchInfo, parts: RecordParts, fixed: FixedHeaders, topic: string) {
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
