/** One answer as records: JSON, NDJSON or CSV, each record as it stood there, on a line of its own. */
import { AdflowError } from '../../core/errors.ts'
import { type CsvDialect, csvFields, csvSplitter, uniqueNames } from '../../records/csv.ts'
import type { FoundRecords } from '../../records/found-records.ts'
import { JsonPageError, type JsonPath, readJsonPage } from '../../records/json-page.ts'
import { lines } from '../../records/lines.ts'
import { trimLineEnd } from '../../records/splitter.ts'
import { PIECE_BYTES, Window } from '../../records/window.ts'
import { skipByteOrderMark } from '../objects/byte-order-mark.ts'
import type { SegmentFormat } from '../staging/segment.ts'
import { placeOf, type SourceAnswer, TryAgain } from './source-client.ts'

export type PageFormat = 'json' | 'ndjson' | 'csv'

export interface CsvOptions extends CsvDialect {
  readonly header: boolean | readonly string[]
}

export interface PageOptions {
  readonly format: PageFormat | 'auto'
  readonly records: JsonPath
  readonly values: Readonly<Record<string, JsonPath>>
  readonly csv: CsvOptions
  readonly maxRecordBytes: number
}

export interface RecordSink {
  /** Before the first record: how they are to be read. */
  begin(format: SegmentFormat): Promise<void>
  /** Valid during the call only. */
  take(bytes: Buffer, from: number, to: number, lines: number): void
  /** All that were found in these bytes. */
  takeFound(found: FoundRecords, bytes: Buffer): void
  rest(): Promise<void>
}

/** A record of a page may be so many times as long as one that is taken: it is staged, and quarantined where it is cut. */
const LONGER = 8

/** Resolves to the JSON text of the values that are there. */
export async function readPage(
  answer: SourceAnswer,
  options: PageOptions,
  sink: RecordSink,
  found: FoundRecords,
): Promise<Readonly<Record<string, string>>> {
  const bytes = found.buffers.take()
  const window = new Window(answer.body, 0, undefined, bytes)
  try {
    return await readWindow(window, answer, options, sink, found)
  } finally {
    found.buffers.give(bytes)
  }
}

async function readWindow(
  window: Window,
  answer: SourceAnswer,
  options: PageOptions,
  sink: RecordSink,
  found: FoundRecords,
): Promise<Readonly<Record<string, string>>> {
  const place = placeOf(answer.url)
  const type = (answer.headers['content-type'] ?? '').toLowerCase()
  const format = options.format === 'auto' ? formatOf(type) : options.format
  if (/^(?:text\/html|application\/xhtml)/.test(type)) throw notWhatItShouldBe(place, format, 'an HTML page')
  await skipByteOrderMark(window, place)
  if (window.length === 0) await window.fill(PIECE_BYTES)
  if (window.bytes[window.start] === LESS_THAN && window.length > 0)
    throw notWhatItShouldBe(place, format, 'a page that begins with `<`')
  const maxRecordBytes = options.maxRecordBytes * LONGER
  if (format !== 'json') {
    await readLines(window, format, { ...options, maxRecordBytes }, sink, place)
    return {}
  }
  await sink.begin({ type: 'ndjson' })
  if (window.length === 0 && window.failure === undefined) return {} // 204, or an empty body
  return readJsonPage(window, {
    records: options.records,
    values: options.values,
    maxRecordBytes,
    take: sink.take.bind(sink),
    many: { found, take: sink.takeFound.bind(sink) },
    rest: sink.rest.bind(sink),
  }).catch((error: unknown) => {
    throw error instanceof JsonPageError ? explained(error, place, options) : error
  })
}

const LESS_THAN = 60

function formatOf(type: string): PageFormat {
  if (/ndjson|jsonl|json-seq|x-json-stream/.test(type)) return 'ndjson'
  return /csv/.test(type) ? 'csv' : 'json'
}

async function readLines(
  window: Window,
  format: 'ndjson' | 'csv',
  { csv, maxRecordBytes }: PageOptions,
  sink: RecordSink,
  place: string,
): Promise<void> {
  const splitter = format === 'csv' ? csvSplitter(csv) : lines
  let begun = false
  const begin = async (from: number, to: number): Promise<boolean> => {
    begun = true
    if (format === 'ndjson') {
      await sink.begin({ type: 'ndjson' })
      return true
    }
    const fields = csvFields(window.bytes.subarray(from, to), csv)
    const { header, delimiter, quote } = csv
    const names = header === true ? fields : header === false ? fields.map((_, index) => `column${index}`) : header
    await sink.begin({ type: 'csv', delimiter, quote, header: uniqueNames(names) })
    return header !== true
  }
  for (;;) {
    let end = splitter.next(window.bytes, window.start, window.end)
    if (end === -1) {
      if (window.length > maxRecordBytes) throw tooLarge(place)
      if ((await window.fill(PIECE_BYTES + window.length)) > 0) continue
      if (window.failure !== undefined) throw window.failure
      if (window.length === 0) return
      if (splitter.broken(window.bytes, window.start, window.end))
        throw cutOff(place, 'in the middle of a quoted field')
      end = window.end
    }
    const { start } = window
    const stop = trimLineEnd(window.bytes, start, end)
    const wanted = !splitter.blank(window.bytes, start, stop) && (begun || (await begin(start, stop)))
    if (wanted) sink.take(window.bytes, start, stop, 0)
    window.consume(end - start)
    if (window.length < PIECE_BYTES / 2) await sink.rest()
  }
}

function explained({ fault, at }: JsonPageError, place: string, { records }: PageOptions): Error {
  if (fault === 'cut off') return cutOff(place, `at byte ${at}, in the middle of its JSON`)
  if (fault === 'too large') return tooLarge(place)
  if (fault === 'malformed')
    return new AdflowError('SOURCE_DAMAGED', `${place} sends what is no JSON, at byte ${at}`, {
      hint: 'set `format` if it is NDJSON or CSV; nothing of the page was taken',
    })
  return new AdflowError('SOURCE_UNSUPPORTED', `${place} has no records at \`${records.join('.') || '$'}\``, {
    hint: 'set `records` to where they stand in its answer, such as `data.items`',
  })
}

function cutOff(place: string, found: string): TryAgain {
  return new TryAgain(
    new AdflowError('SOURCE_DAMAGED', `${place} ends ${found}`, {
      hint: 'the source broke off; nothing of the page was taken, and the next run asks for it again',
    }),
  )
}

function tooLarge(place: string): AdflowError {
  return new AdflowError(
    'SOURCE_UNSUPPORTED',
    `${place} has a record that is more than ${LONGER} times as large as records may be`,
    {
      hint: 'raise `resources.max_record`, or check `records` and `format`',
    },
  )
}

function notWhatItShouldBe(place: string, format: PageFormat, found: string): AdflowError {
  return new AdflowError('SOURCE_UNSUPPORTED', `${place} sends ${found} where ${format.toUpperCase()} was expected`, {
    hint: 'most likely it asks to log in, or a proxy answers in its place: check `url` and `auth`',
  })
}
