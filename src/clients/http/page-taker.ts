/** The records of one page on their way into the stage: those that are known stay behind, the highest value of a field is kept. */
import { createHash } from 'node:crypto'
import { AdflowError } from '../../core/errors.ts'
import { csvFields } from '../../records/csv.ts'
import { jsonField } from '../../records/json-field.ts'
import type { JsonPath } from '../../records/json-page.ts'
import type { PageSink } from '../staging/fetcher.ts'
import { KnownKeys } from '../staging/known-keys.ts'
import type { SegmentFormat } from '../staging/segment.ts'
import { comparable, compareSince, type SinceKind } from '../staging/since.ts'
import type { RecordSink } from './page-reader.ts'

export interface TakerOptions {
  readonly key: readonly JsonPath[]
  readonly field: { readonly path: JsonPath; readonly kind: SinceKind } | undefined
  readonly origin: string
  /** The page must begin with these records, which were taken already. */
  readonly expected: { readonly records: number; readonly digest: string } | undefined
  /** For work that the time-out of the request does not count. */
  pause<T>(work: () => Promise<T>): Promise<T>
}

const OUTPUT_BYTES = 1 << 20
const NEWLINE = 10

export class PageTaker implements RecordSink {
  records = 0
  fresh = 0
  high: string | undefined
  /** Keys of the page. */
  readonly keys = new Set<string>()
  readonly #known: KnownKeys
  readonly #values = new Map<string, string | undefined>()
  readonly #sink: PageSink
  readonly #options: TakerOptions
  readonly #digest = createHash('sha256')
  #format: SegmentFormat = { type: 'ndjson' }
  #output: Buffer = Buffer.allocUnsafe(OUTPUT_BYTES)
  #length = 0
  #full: Buffer[] = []
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
    this.#digest.update(bytes.subarray(from, to)).update('\n')
    const { expected } = this.#options
    if (expected !== undefined && this.records <= expected.records) {
      if (this.records === expected.records) this.#mismatch = this.digest !== expected.digest
      return
    }
    if (!this.#isNew(bytes, from, to)) return
    this.fresh += 1
    const length = to - from
    if (this.#length + length + 1 > this.#output.length) {
      this.#full.push(this.#output.subarray(0, this.#length))
      this.#output = Buffer.allocUnsafe(Math.max(OUTPUT_BYTES, length + 1))
      this.#length = 0
    }
    bytes.copy(this.#output, this.#length, from, to)
    if (lines > 0) lineEndsToSpaces(this.#output, this.#length, this.#length + length)
    this.#output[this.#length + length] = NEWLINE
    this.#length += length + 1
  }

  async rest(): Promise<void> {
    const full = this.#full
    this.#full = []
    for (const piece of full) await this.#options.pause(() => this.#sink.write(piece))
  }

  /** Of all records so far. */
  get digest(): string {
    return this.#digest.copy().digest('base64url').slice(0, 22)
  }

  /** @throws AdflowError SOURCE_CHANGED where the page does not begin as it did */
  async end(): Promise<void> {
    const { expected, origin } = this.#options
    if (expected !== undefined && (this.#mismatch || this.records < expected.records))
      throw new AdflowError(
        'SOURCE_CHANGED',
        `the last page of ${origin} does not begin any more with the ${expected.records} records that were read of it`,
        {
          hint: 'a list that changes before its end cannot be read by `again: added`: read it by `incremental`, or whole by `again: all`',
        },
      )
    this.#full.push(this.#output.subarray(0, this.#length))
    this.#length = 0
    await this.rest()
  }

  /** The page is whole: what it has brought is known from now on. */
  remember(): void {
    for (const [key, value] of this.#values) this.#known.add(key, value)
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

function lineEndsToSpaces(bytes: Buffer, from: number, to: number): void {
  for (let at = bytes.indexOf(NEWLINE, from); at !== -1 && at < to; at = bytes.indexOf(NEWLINE, at + 1)) bytes[at] = 32
}
