/** The records of one page on their way into the stage: those that are known stay behind, the highest value of a field is kept. */
import { createHash } from 'node:crypto'
import { AdflowError } from '../../core/errors.ts'
import { csvFields } from '../../records/csv.ts'
import type { FoundRecords } from '../../records/found-records.ts'
import { jsonField } from '../../records/json-field.ts'
import type { JsonPath } from '../../records/json-page.ts'
import type { PieceBuffers } from '../../records/piece-buffers.ts'
import type { PageSink } from '../staging/fetcher.ts'
import { KnownKeys } from '../staging/known-keys.ts'
import type { SegmentFormat } from '../staging/segment.ts'
import { comparable, compareSince, type SinceKind } from '../staging/since.ts'
import type { RecordSink } from './page-reader.ts'

export interface TakerOptions {
  readonly key: readonly JsonPath[]
  readonly field: { readonly path: JsonPath; readonly kind: SinceKind } | undefined
  readonly origin: string
  readonly buffers: PieceBuffers
  /** The page must begin with these records, which were taken already. */
  readonly expected: { readonly records: number; readonly digest: string } | undefined
  /** Lines that are longer are no records. */
  readonly maxRecordBytes: number
  /** Pages are compared with what was read before. */
  readonly digests: boolean
  /** For work that the time-out of the request does not count. */
  pause<T>(work: () => Promise<T>): Promise<T>
}

/** A piece that is full. */
interface Piece {
  readonly bytes: Buffer
  /** Records, each a line. undefined: whoever needs that must count. */
  readonly records: number | undefined
}

/** Pieces that are written at once. Those of a shorter page are written while the answer to the next request is waited for, which costs no time. */
const BATCH = 2

const NOTHING = Buffer.alloc(0)
const NEWLINE = 10
const SPACE = 32

export class PageTaker implements RecordSink {
  records = 0
  fresh = 0
  /** Of the page as it is staged, up to end(). */
  bytes = 0
  high: string | undefined
  /** Keys of the page. */
  readonly keys = new Set<string>()
  readonly #known: KnownKeys
  readonly #values = new Map<string, string | undefined>()
  readonly #sink: PageSink
  readonly #options: TakerOptions
  readonly #digest = createHash('sha256')
  #format: SegmentFormat = { type: 'ndjson' }
  #output: Buffer = NOTHING
  #length = 0
  /** Records in the output, and bytes of the longest one that was put there. */
  #held = 0
  #longest = 0
  /** Bytes of the output that the digest has. */
  #digested = 0
  #full: Piece[] = []
  /** What is written meanwhile: records are taken on. */
  #writing: Promise<void> = Promise.resolve()
  #mismatch = false

  /** `known` is not changed: the page may break off. */
  constructor(sink: PageSink, known: KnownKeys, high: string | undefined, options: TakerOptions) {
    this.#sink = sink
    this.#known = known
    this.high = high
    this.#options = options
  }

  async begin(format: SegmentFormat): Promise<void> {
    this.#format = format
    await this.#sink.format(format)
  }

  take(bytes: Buffer, from: number, to: number, lines: number): void {
    this.records += 1
    const start = this.#append(bytes, from, to)
    const { expected } = this.#options
    if (expected !== undefined && this.records <= expected.records) {
      if (this.records === expected.records) this.#mismatch = this.digest !== expected.digest
      this.#leaveOut(start)
    } else if (this.#isNew(bytes, from, to)) {
      this.fresh += 1
      if (lines > 0) this.#onOneLine(start)
    } else this.#leaveOut(start)
  }

  takeFound(found: FoundRecords, bytes: Buffer): void {
    const { key, field, expected, buffers } = this.#options
    if (key.length > 0 || field !== undefined || expected !== undefined || found.lineEnds > 0) {
      found.each(bytes, this.take.bind(this))
      return
    }
    this.records += found.count
    this.fresh += found.count
    this.#longest = Math.max(this.#longest, found.longest)
    for (let next = 0; next < found.count; ) {
      const { records, end } = found.gather(next, bytes, this.#output, this.#length)
      this.#length = end
      this.#held += records
      next += records
      if (next < found.count) this.#turn(buffers.take())
    }
  }

  /** One batch of pieces is on its way to the disk while the next is filled. */
  async rest(): Promise<void> {
    if (this.#full.length < BATCH) return
    await this.#options.pause(() => this.#writing)
    this.#send()
  }

  /** Of all records so far, each with a line end; empty where none is wanted. */
  get digest(): string {
    if (!this.#options.digests) return ''
    this.#digestAll()
    return this.#digest.copy().digest('base64url').slice(0, 22)
  }

  /** All of the page is on its way, see settled(). @throws AdflowError SOURCE_CHANGED where the page does not begin as it did */
  end(): void {
    const { expected, origin } = this.#options
    if (expected !== undefined && (this.#mismatch || this.records < expected.records))
      throw new AdflowError(
        'SOURCE_CHANGED',
        `the last page of ${origin} does not begin any more with the ${expected.records} records that were read of it`,
        {
          hint: 'a list that changes before its end cannot be read by `again: added`: read it by `incremental`, or whole by `again: all`',
        },
      )
    this.#turn(NOTHING)
    this.#send()
  }

  /** Nothing is being written any more. @throws what came of it */
  async settled(): Promise<void> {
    await this.#writing
  }

  /** What is left of a page that broke off. */
  discard(): void {
    for (const bytes of [this.#output, ...this.#full.map((piece) => piece.bytes)]) this.#options.buffers.give(bytes)
    this.#output = NOTHING
    this.#full = []
  }

  /** After what is being written. */
  #send(): void {
    this.#writing = this.#write(this.#full, this.#writing)
    this.#writing.catch(() => undefined) // awaited before the next batch, or by settled()
    this.#full = []
  }

  async #write(pieces: readonly Piece[], before: Promise<void>): Promise<void> {
    const { buffers } = this.#options
    const left = [...pieces]
    try {
      await before
      for (let piece = left.shift(); piece !== undefined; piece = left.shift()) {
        await this.#sink.write(piece.bytes, piece.records).finally(() => buffers.give(piece.bytes))
      }
    } finally {
      for (const { bytes } of left) buffers.give(bytes)
    }
  }

  /** The page is whole: what it has brought is known from now on. */
  remember(): void {
    for (const [key, value] of this.#values) this.#known.add(key, value)
  }

  /** The record and a line end; where it begins in the output. */
  #append(bytes: Buffer, from: number, to: number): number {
    const length = to - from
    if (this.#length + length + 1 > this.#output.length) this.#turn(this.#options.buffers.take(length + 1))
    const start = this.#length
    bytes.copy(this.#output, start, from, to)
    this.#output[start + length] = NEWLINE
    this.#length = start + length + 1
    this.#held += 1
    this.#longest = Math.max(this.#longest, length)
    return start
  }

  #turn(next: Buffer): void {
    const { buffers, maxRecordBytes } = this.#options
    this.#digestAll()
    const isCounted = this.#format.type === 'ndjson' && this.#longest < maxRecordBytes
    const piece = { bytes: this.#output.subarray(0, this.#length), records: isCounted ? this.#held : undefined }
    this.bytes += this.#length
    if (this.#length > 0) this.#full.push(piece)
    else buffers.give(this.#output)
    this.#output = next
    this.#length = 0
    this.#held = 0
    this.#longest = 0
    this.#digested = 0
  }

  #leaveOut(start: number): void {
    this.#digestAll()
    this.#length = start
    this.#held -= 1
    this.#digested = start
  }

  #onOneLine(start: number): void {
    this.#digestAll()
    const end = this.#length - 1
    for (let at = this.#output.indexOf(NEWLINE, start); at < end; at = this.#output.indexOf(NEWLINE, at + 1))
      this.#output[at] = SPACE
  }

  /** Many records at once: a call for each costs more than their bytes. */
  #digestAll(): void {
    if (this.#options.digests && this.#digested < this.#length)
      this.#digest.update(this.#output.subarray(this.#digested, this.#length))
    this.#digested = this.#length
  }

  #isNew(bytes: Buffer, from: number, to: number): boolean {
    const { key, field } = this.#options
    if (key.length === 0 && field === undefined) return true
    const value = this.#reader(bytes, from, to)
    const since = field === undefined ? undefined : comparable(value(field.path), field.kind)
    if (key.length > 0) {
      const own = KnownKeys.of(key.map(value))
      const isKnown = this.keys.has(own) || this.#known.has(own)
      this.keys.add(own)
      this.#values.set(own, since)
      if (isKnown) return false
    }
    if (field !== undefined && since !== undefined)
      if (this.high === undefined || compareSince(since, this.high, field.kind) > 0) this.high = since
    return true
  }

  #reader(bytes: Buffer, from: number, to: number): (path: JsonPath) => string | undefined {
    const format = this.#format
    if (format.type === 'ndjson') return (path) => jsonField(bytes, from, to, path)
    const fields = csvFields(bytes.subarray(from, to), format)
    return (path) => fields[format.header.indexOf(path.join('.'))]
  }
}
