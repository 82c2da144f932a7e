/** What a record of Kafka is beside its value, as fields before those of the value: `"offset":7,` of JSON, `7,` of CSV. */
import { isUtf8 } from 'node:buffer'
import { z } from 'zod'
import type { RecordCursor } from './record-cursor.ts'

const PARTS = [
  'topic',
  'partition',
  'offset',
  'timestamp',
  'timestamp_ms',
  'key',
  'key_base64',
  'headers',
  'headers_base64',
  'tombstone',
] as const
/** Digits and the like: cheaper than to look for what is beyond ASCII. */
const LATIN = 'latin1'
const HEADER = /^header:(.+)$/s

export const fieldsOption = z
  .record(
    z.string().regex(/^[^\p{Cc}"\\]+$/u, 'a name without quotes, backslashes and control characters'),
    z.union([z.enum(PARTS), z.string().regex(HEADER, 'expected `header:NAME`')]),
  )
  .describe(
    'Fields that each record gets beside those of its value: name → `topic`, `partition`, `offset`, `timestamp` (ISO 8601, UTC), `timestamp_ms`, `key`, `key_base64`, `headers` (a list of objects with `key` and `value`, in order), `headers_base64`, `header:NAME` (the last one of this name), `tombstone` (true: the record has no value). The contract names them like any other.',
  )

export type Fields = z.infer<typeof fieldsOption>

/** Where a record stands. */
export interface RecordPlace {
  readonly base: bigint
  readonly timestampMs: number
}

type Write = (out: Buffer, at: number, record: RecordCursor, place: RecordPlace) => number

/** No text takes more: `\u0000` in JSON, and both its quotes doubled in CSV. */
const MOST_PER_BYTE = 12
const MOST_PER_FIELD = 160
const [QUOTE, BACKSLASH, SPACE, DELETE, COMMA] = [0x22, 0x5c, 0x20, 0x7f, 0x2c]

/** A part of a record cannot be told as text. */
export class NotText extends Error {}

export class FieldWriter {
  readonly names: readonly string[]
  readonly #writes: readonly Write[]
  readonly #fixedBytes: number

  /** `csv`: the byte between fields and around texts; undefined: JSON. */
  constructor(
    fields: Fields,
    { topic, partition }: { readonly topic: string; readonly partition: number },
    csv: { readonly delimiter: string; readonly quote: string } | undefined,
  ) {
    this.names = Object.keys(fields)
    const texts = csv === undefined ? jsonTexts : csvTexts(csv.quote.charCodeAt(0))
    const separator = csv === undefined ? COMMA : csv.delimiter.charCodeAt(0)
    const prefixes = this.names.map((name) => Buffer.from(csv === undefined ? `${JSON.stringify(name)}:` : ''))
    this.#fixedBytes = prefixes.reduce((sum, { length }) => sum + length + MOST_PER_FIELD, 3 * topic.length)
    this.#writes = Object.values(fields).map((part, index) => {
      const prefix = prefixes[index] as Buffer
      const write = partWriter(part, texts, Buffer.from(topic), String(partition))
      return (out, at, record, place) => {
        const begin = at + prefix.copy(out, at)
        const end = write(out, begin, record, place)
        out[end] = separator
        return end + 1
      }
    })
  }

  /** Room that write() may need. */
  bound({ valueBytes, headersAt, end, keyBytes }: RecordCursor): number {
    return this.#fixedBytes + MOST_PER_BYTE * (end - headersAt + Math.max(0, keyBytes)) + Math.min(0, valueBytes)
  }

  /** Each field with a separator behind it; returns the end. Throws NotText. */
  write(out: Buffer, at: number, record: RecordCursor, place: RecordPlace): number {
    let end = at
    for (const write of this.#writes) end = write(out, end, record, place)
    return end
  }
}

interface Texts {
  /** `bytes[from, to)` as a text. */
  text(out: Buffer, at: number, bytes: Buffer, from: number, to: number, what: string): number
  /** A text of JSON as the value of a field. */
  json(out: Buffer, at: number, json: string): number
  readonly null: string
}

const jsonTexts: Texts = {
  text(out, at, bytes, from, to, what) {
    if (isPlain(bytes, from, to)) {
      out[at] = QUOTE
      const end = at + 1 + bytes.copy(out, at + 1, from, to)
      out[end] = QUOTE
      return end + 1
    }
    return at + out.write(JSON.stringify(textOf(bytes.subarray(from, to), what)), at)
  },
  json: (out, at, json) => at + out.write(json, at),
  null: 'null',
}

function csvTexts(quote: number): Texts {
  const mark = String.fromCharCode(quote)
  const quoted = (text: string) => `${mark}${text.replaceAll(mark, mark + mark)}${mark}`
  return {
    text: (out, at, bytes, from, to, what) => at + out.write(quoted(textOf(bytes.subarray(from, to), what)), at),
    json: (out, at, json) => at + out.write(quoted(json), at),
    null: '',
  }
}

function partWriter(part: string, texts: Texts, topic: Buffer, partition: string): Write {
  const nothing = (out: Buffer, at: number) => at + out.write(texts.null, at, LATIN)
  const header = HEADER.exec(part)?.[1]
  if (header !== undefined)
    return (out, at, record) => {
      const value = record.headers().findLast(({ name }) => name.toString() === header)?.value ?? null
      return value === null ? nothing(out, at) : texts.text(out, at, value, 0, value.length, `the header ${header}`)
    }
  const stamp = { ms: Number.NaN, text: Buffer.alloc(0) }
  const writers: Readonly<Record<string, Write>> = {
    topic: (out, at) => texts.text(out, at, topic, 0, topic.length, 'the topic'),
    partition: (out, at) => at + out.write(partition, at, LATIN),
    offset: (out, at, { offsetDelta }, { base }) => at + out.write(offsetText(base, offsetDelta), at, LATIN),
    timestamp: (out, at, _record, { timestampMs }) => {
      if (timestampMs < 0) return nothing(out, at)
      if (stamp.ms !== timestampMs) {
        stamp.ms = timestampMs
        stamp.text = Buffer.from(new Date(timestampMs).toISOString())
      }
      return texts.text(out, at, stamp.text, 0, stamp.text.length, 'the timestamp')
    },
    timestamp_ms: (out, at, _record, { timestampMs }) =>
      timestampMs < 0 ? nothing(out, at) : at + out.write(String(timestampMs), at, LATIN),
    key: (out, at, { bytes, keyAt, keyBytes }) =>
      keyBytes < 0 ? nothing(out, at) : texts.text(out, at, bytes, keyAt, keyAt + keyBytes, 'the key'),
    key_base64: (out, at, { bytes, keyAt, keyBytes }) => {
      if (keyBytes < 0) return nothing(out, at)
      return texts.json(out, at, `"${bytes.toString('base64', keyAt, keyAt + keyBytes)}"`)
    },
    headers: (out, at, record) =>
      texts.json(
        out,
        at,
        headersJson(record, (own) => textOf(own, 'a header')),
      ),
    headers_base64: (out, at, record) =>
      texts.json(
        out,
        at,
        headersJson(record, (own) => own.toString('base64')),
      ),
    tombstone: (out, at, { valueBytes }) => at + out.write(valueBytes < 0 ? 'true' : 'false', at, LATIN),
  }
  return writers[part] ?? nothing
}

function headersJson(record: RecordCursor, text: (value: Buffer) => string): string {
  const found = record.headers().map(({ name, value }) => ({
    key: textOf(name, 'the name of a header'),
    value: value === null ? null : text(value),
  }))
  return JSON.stringify(found)
}

function offsetText(base: bigint, delta: number): string {
  return base <= Number.MAX_SAFE_INTEGER - 0x7fffffff ? String(Number(base) + delta) : String(base + BigInt(delta))
}

/** Stands in JSON as it is. */
function isPlain(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) {
    const byte = bytes[at] as number
    if (byte < SPACE || byte >= DELETE || byte === QUOTE || byte === BACKSLASH) return false
  }
  return true
}

function textOf(bytes: Buffer, what: string): string {
  if (!isUtf8(bytes)) throw new NotText(`${what} is not valid UTF-8: it can be had as base64`)
  return bytes.toString()
}
