/** Writes the records of a partition into a chunk file, each a line, straight from the bytes of their batches. */
import type { Chunk, ChunkFormat, RefusedRecord } from '../../core/contracts.ts'
import type { ErrorCode } from '../../core/errors.ts'
import { ChunkFile } from '../../records/chunk-file.ts'
import { csvSplitter } from '../../records/csv.ts'
import { lines } from '../../records/lines.ts'
import type { PieceBuffers } from '../../records/piece-buffers.ts'
import { RAW_BYTES } from '../../records/raw-head.ts'
import { RecordIndex } from '../../records/record-index.ts'
import { NEWLINE, RETURN, type Splitter, trimLineEnd } from '../../records/splitter.ts'
import { PIECE_BYTES } from '../../records/window.ts'
import { type AvroValues, TOO_LONG } from '../avro/values.ts'
import { chunkPath } from '../objects/chunk-names.ts'
import type { LogBatch } from './log-batches.ts'
import { RecordCursor } from './record-cursor.ts'
import { type Fields, FieldWriter, NotText } from './record-fields.ts'
import { RecordPlaces, sourceOf } from './record-places.ts'

export interface LineFormat {
  readonly type: 'json' | 'csv' | 'avro'
  /** Of `avro`; may be shared. */
  readonly avro?: AvroValues | undefined
  readonly csv: { readonly delimiter: string; readonly quote: string; readonly header: readonly string[] }
  readonly fields: Fields
  readonly tombstones: 'record' | 'skip'
}

export interface LineOptions extends LineFormat {
  readonly topic: string
  readonly partition: number
  readonly chunkDir: string
  readonly maxRecordBytes: number
  /** What is held before it is written. */
  readonly buffers: PieceBuffers
}

/** Of a record, as it becomes a line. */
interface Value {
  readonly bytes: Buffer
  readonly at: number
  /** Its first byte that is not blank. */
  readonly begin: number
  readonly end: number
}

export type WrittenLines = Pick<
  Chunk,
  'file' | 'format' | 'records' | 'refused' | 'bytes' | 'digest' | 'locate' | 'raw' | 'stored' | 'spans'
>

/** Held before they are written: a usual record more still finds room. */
const FLUSHED_BYTES = PIECE_BYTES - (1 << 16)
const [BRACE, CLOSING, SPACE, TAB] = [0x7b, 0x7d, 0x20, 0x09]
const NULL = Buffer.from('null')
/** Of a line beside value and fields: `null`, braces, the line end. */
const MORE_BYTES = 8

export class ChunkLines {
  readonly #options: LineOptions
  readonly #path: string
  readonly #file: ChunkFile
  readonly #places = new RecordPlaces()
  readonly #refused: RefusedRecord[] = []
  readonly #writer: FieldWriter | undefined
  readonly #splitter: Splitter
  readonly #isCsv: boolean
  readonly #avro: AvroValues | undefined
  #out: Buffer
  #end = 0
  /** Bytes of the line in work that are not the value's. */
  #added = 0
  /** Of a tombstone. */
  readonly #empty: string

  constructor(options: LineOptions) {
    this.#options = options
    this.#isCsv = options.type === 'csv'
    this.#avro = options.avro
    this.#out = options.buffers.take()
    this.#splitter = this.#isCsv ? csvSplitter(options.csv) : lines
    this.#path = chunkPath(options.chunkDir, this.#isCsv ? 'csv' : 'ndjson')
    this.#file = new ChunkFile(this.#path)
    this.#empty = options.csv.delimiter.repeat(options.csv.header.length - 1)
    const hasFields = Object.keys(options.fields).length > 0
    this.#writer = hasFields
      ? new FieldWriter(options.fields, options, this.#isCsv ? options.csv : undefined)
      : undefined
  }

  /** Those that were written, and those that were refused. */
  get taken(): number {
    return this.#places.count + this.#refused.length
  }

  /**
   * The records of a batch with offsets in `[from, to)`, until the chunk has `targetBytes`. Returns the offset after the last one
   * that was taken; undefined: the whole batch was.
   */
  async take(
    batch: LogBatch,
    records: Buffer,
    { from, to, targetBytes }: { readonly from: bigint; readonly to: bigint; readonly targetBytes: number },
  ): Promise<bigint | undefined> {
    const cursor = new RecordCursor(records, batch.count)
    const [first, stop] = [Number(from - batch.base), Number(to - batch.base)]
    this.#places.begin(batch.base)
    while (cursor.next()) {
      if (cursor.offsetDelta < first) continue
      if (cursor.offsetDelta >= stop) return to
      const { valueAt, valueBytes } = cursor
      if (this.#avro?.needs(records, valueAt, valueAt + valueBytes)) await this.#avro.prepare(records, valueAt)
      this.#take(cursor, batch)
      if (this.#end >= FLUSHED_BYTES) await this.#flush()
      if (this.#file.bytes + this.#end >= targetBytes) return batch.base + BigInt(cursor.offsetDelta) + 1n
    }
    return undefined
  }

  async finish(): Promise<WrittenLines> {
    await this.#flush()
    await this.#file.finish()
    this.#options.buffers.give(this.#out)
    return this.#described()
  }

  async discard(): Promise<void> {
    await this.#file.discard()
    this.#options.buffers.give(this.#out)
  }

  #take(record: RecordCursor, batch: LogBatch): void {
    if (record.valueBytes < 0 && this.#options.tombstones === 'skip') return
    const value = this.#value(record)
    const fault =
      typeof value === 'string'
        ? value
        : value.end - value.at > this.#options.maxRecordBytes
          ? this.#tooLarge()
          : value.begin === value.end && record.valueBytes >= 0
            ? 'the value is empty'
            : this.#line(record, batch, value)
    if (fault !== undefined) this.#refuse(record, batch, fault)
  }

  /** As text; or why there is none. */
  #value({ bytes, valueAt, valueBytes }: RecordCursor): Value | string {
    const whole = valueAt + Math.max(0, valueBytes)
    if (this.#avro === undefined || valueBytes <= 0) {
      const end = this.#isCsv ? trimLineEnd(bytes, valueAt, whole) : whole
      return { bytes, at: valueAt, begin: firstByte(bytes, valueAt, end), end }
    }
    const json = this.#avro.read(bytes, valueAt, whole)
    if (typeof json === 'string') return json === TOO_LONG ? this.#tooLarge() : json
    return { bytes: json, at: 0, begin: 0, end: json.length }
  }

  /** Returns why there is no such line. */
  #line(record: RecordCursor, batch: LogBatch, value: Value): string | undefined {
    this.#makeRoom(value.end - value.at + (this.#writer?.bound(record) ?? 0) + this.#empty.length + MORE_BYTES)
    const from = this.#end
    this.#added = 0
    let at: number
    try {
      at = this.#isCsv ? this.#csvLine(record, batch, value) : this.#jsonLine(record, batch, value)
    } catch (error) {
      if (error instanceof NotText) return error.message
      throw error
    }
    this.#out[at] = NEWLINE
    if (at - from > this.#options.maxRecordBytes) return this.#tooLarge()
    if (!this.#isCsv) this.#oneLine(from, at)
    else if (at === from) return 'the record has no value'
    else if (this.#splitter.next(this.#out, from, at + 1) !== at + 1) return 'the value is not one line of CSV'
    this.#end = at + 1
    this.#places.add(record.offsetDelta, this.#added)
    return undefined
  }

  /** The fields stand before those of the value. */
  #csvLine(record: RecordCursor, batch: LogBatch, { bytes, at: from, end }: Value): number {
    const at = this.#fields(record, batch, this.#end)
    this.#added = at - this.#end
    if (record.valueBytes >= 0) return at + bytes.copy(this.#out, at, from, end)
    // The last separator stands before the value; of a tombstone every column is empty.
    return at + this.#out.write(this.#empty, at, 'latin1')
  }

  /** The fields stand behind the brace that opens the value. */
  #jsonLine(record: RecordCursor, batch: LogBatch, { bytes, at: from, begin, end }: Value): number {
    const isNull = record.valueBytes < 0
    const out = this.#out
    let at = this.#end
    if (this.#writer === undefined || (!isNull && bytes[begin] !== BRACE))
      return at + (isNull ? NULL.copy(out, at) : bytes.copy(out, at, from, end))
    at += bytes.copy(out, at, from, begin)
    out[at++] = BRACE
    const inside = at
    at = this.#fields(record, batch, at)
    // No comma before the end of an object that has nothing else.
    if (isNull || bytes[firstByte(bytes, begin + 1, end)] === CLOSING) at -= 1
    this.#added = at - inside
    if (!isNull) return at + bytes.copy(out, at, begin + 1, end)
    out[at] = CLOSING
    return at + 1
  }

  #fields(record: RecordCursor, { base, firstMs, appendedMs }: LogBatch, at: number): number {
    if (this.#writer === undefined) return at
    const timestampMs = appendedMs ?? firstMs + record.timestampDelta
    return this.#writer.write(this.#out, at, record, { base, timestampMs })
  }

  /** Line ends inside JSON are white space: none stands inside a text. */
  #oneLine(from: number, end: number): void {
    for (let at = this.#out.indexOf(NEWLINE, from); at < end; at = this.#out.indexOf(NEWLINE, at + 1)) this.#blank(at)
    // One before the end would be taken for a part of it.
    if (this.#out[end - 1] === RETURN) this.#blank(end - 1)
  }

  #blank(at: number): void {
    this.#places.replace(this.#file.bytes + at, this.#out[at] as number)
    this.#out[at] = SPACE
  }

  #tooLarge(): string {
    return `a record is larger than ${this.#options.maxRecordBytes} bytes`
  }

  #refuse({ bytes, offsetDelta, valueAt, valueBytes }: RecordCursor, batch: LogBatch, why: string): void {
    const { topic, partition } = this.#options
    const offset = batch.base + BigInt(offsetDelta)
    const reason: ErrorCode = why === this.#tooLarge() ? 'RECORD_TOO_LARGE' : 'RECORD_MALFORMED'
    const message = `${why} (offset ${offset} of ${topic}/${partition})`
    const raw = Buffer.from(bytes.subarray(valueAt, valueAt + Math.min(Math.max(0, valueBytes), RAW_BYTES)))
    this.#refused.push({ reason, message, raw, ...sourceOf(offset) })
  }

  #makeRoom(bytes: number): void {
    if (this.#end + bytes <= this.#out.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#out.length * 2, this.#end + bytes))
    this.#out.copy(larger, 0, 0, this.#end)
    this.#out = larger
  }

  async #flush(): Promise<void> {
    await this.#file.append(this.#out, 0, this.#end)
    this.#end = 0
  }

  #described(): WrittenLines {
    const places = this.#places
    let index: Promise<RecordIndex> | undefined
    const records = () => {
      index ??= RecordIndex.build(this.#path, this.#splitter, places.count)
      return index
    }
    const isJson = !this.#isCsv
    return {
      file: this.#path,
      format: this.#format(),
      records: places.count,
      refused: this.#refused,
      bytes: this.#file.bytes,
      digest: this.#file.digest,
      locate: async (ordinals) => ordinals.map((ordinal) => places.source(ordinal)),
      stored: async (ordinals) => (await records()).bytes(ordinals),
      raw: async (ordinals) => {
        const known = await records()
        const found = await known.bytes(ordinals)
        return ordinals.map((ordinal, position) =>
          places.original(ordinal, found[position] as Buffer, known.span(ordinal).start, isJson),
        )
      },
      spans: async (ordinals) => {
        const known = await records()
        return ordinals.map((ordinal) => known.span(ordinal))
      },
    }
  }

  #format(): ChunkFormat {
    if (!this.#isCsv) return { type: 'ndjson' }
    const { delimiter, quote, header } = this.#options.csv
    return { type: 'csv', delimiter, quote, header: [...(this.#writer?.names ?? []), ...header] }
  }
}

/** The first byte that is not white space; `to`: there is none. */
function firstByte(bytes: Buffer, from: number, to: number): number {
  let at = from
  for (; at < to; at += 1) {
    const byte = bytes[at] as number
    if (byte > SPACE || (byte !== SPACE && byte !== TAB && byte !== NEWLINE && byte !== RETURN)) return at
  }
  return to
}
