/**
 * CSV and TSV by RFC 4180 and the usual deviations: LF or CRLF, quoted line ends, doubled quotes. A quote opens a field
 * only at the field's start (spaces before it are let pass, as the engine does); elsewhere it is an ordinary character,
 * so that `5" disk` does not swallow the lines after it.
 */
import { countLines, NEWLINE, RETURN, type ScanStop, type Splitter, type Tally, trimLineEnd } from './splitter.ts'

export interface CsvDialect {
  /** One byte. */
  readonly delimiter: string
  /** One byte, or empty: no quoting. */
  readonly quote: string
}

const SPACE = 32
const NONE = -1
/** `next` of a record whose quote is still open at the end of the bytes. */
const OPEN = -2

export function csvSplitter(dialect: CsvDialect): Splitter {
  const delimiter = dialect.delimiter.charCodeAt(0)
  const quote = dialect.quote === '' ? NONE : dialect.quote.charCodeAt(0)

  /** Index after the record that starts at `from`; NONE: no line end yet; OPEN: inside quotes. */
  const recordEnd = (view: Buffer, from: number, firstQuote: number): number => {
    let at = from
    let quoteAt = firstQuote
    for (;;) {
      const newline = view.indexOf(NEWLINE, at)
      if (quoteAt === NONE || (newline !== -1 && newline < quoteAt)) return newline === -1 ? NONE : newline + 1
      if (opensField(view, from, quoteAt, delimiter)) {
        at = closingQuote(view, quoteAt, quote)
        if (at === OPEN) return OPEN
      } else at = quoteAt + 1
      quoteAt = view.indexOf(quote, at)
    }
  }

  return {
    scan(bytes: Buffer, from: number, to: number, maxRecordBytes: number, tally: Tally): ScanStop {
      const view = bytes.subarray(0, to)
      let start = from
      let stop: ScanStop = 'more'
      let quoteAt = quote === NONE ? NONE : view.indexOf(quote, from)
      for (;;) {
        let end = view.indexOf(NEWLINE, start) + 1
        let lineEnds = 1
        if (quoteAt !== NONE && (end === 0 || quoteAt < end)) {
          end = recordEnd(view, start, quoteAt)
          if (end < 0) break
          lineEnds = countLines(view, start, end)
          quoteAt = view.indexOf(quote, end)
        } else if (end === 0) break
        if (end - start > maxRecordBytes) stop = 'oversized'
        else if (end - start <= 2 && isBlank(view, start, end - 1)) stop = 'blank'
        if (stop !== 'more') break
        if (view[end - 2] === RETURN) tally.returns.push(end - 2)
        tally.records += 1
        tally.lines += lineEnds
        start = end
      }
      tally.end = start
      return stop
    },
    next(bytes, from, to) {
      const view = bytes.subarray(0, to)
      return Math.max(NONE, recordEnd(view, from, quote === NONE ? NONE : firstQuoteOf(view, from, quote)))
    },
    dropsBlank: true,
    dropsReturns: true,
    multiline: true,
    blank: isBlank,
    whole: () => false,
    broken(bytes, from, to) {
      return (
        quote !== NONE && recordEnd(bytes.subarray(0, to), from, bytes.subarray(0, to).indexOf(quote, from)) === OPEN
      )
    },
  }
}

/** A quote beyond the record's first line end cannot open it; looking no further keeps `next` from reading the whole buffer. */
function firstQuoteOf(view: Buffer, from: number, quote: number): number {
  const newline = view.indexOf(NEWLINE, from)
  return newline === -1 ? view.indexOf(quote, from) : view.subarray(0, newline).indexOf(quote, from)
}

function opensField(view: Buffer, recordStart: number, quoteAt: number, delimiter: number): boolean {
  let at = quoteAt - 1
  while (at >= recordStart && view[at] === SPACE && delimiter !== SPACE) at -= 1
  return at < recordStart || view[at] === delimiter
}

/** Index after the quote that closes the field opened at `opening`, or OPEN. */
function closingQuote(view: Buffer, opening: number, quote: number): number {
  for (let at = view.indexOf(quote, opening + 1); at !== -1; at = view.indexOf(quote, at + 2))
    if (view[at + 1] !== quote) return at + 1
  return OPEN
}

function isBlank(bytes: Buffer, from: number, to: number): boolean {
  return to <= from || (to === from + 1 && bytes[from] === RETURN)
}

/** Fields of one record, unquoted; for header lines, not for data. */
export function csvFields(record: Buffer, dialect: CsvDialect): string[] {
  const text = record.toString('utf8', 0, trimLineEnd(record, 0, record.length))
  const fields: string[] = []
  let at = 0
  for (;;) {
    const quoted = /^ */.exec(text.slice(at))?.[0].length ?? 0
    let field = ''
    if (dialect.quote !== '' && text[at + quoted] === dialect.quote) {
      at += quoted + 1
      for (;;) {
        const close = text.indexOf(dialect.quote, at)
        field += text.slice(at, close === -1 ? text.length : close)
        at = close === -1 ? text.length : close + 1
        if (close === -1 || text[at] !== dialect.quote) break
        field += dialect.quote
        at += 1
      }
    }
    const end = text.indexOf(dialect.delimiter, at)
    fields.push(field + text.slice(at, end === -1 ? text.length : end))
    if (end === -1) return fields
    at = end + 1
  }
}

/** Header names made usable as columns: none empty, none twice (the engine ignores case). */
export function uniqueNames(names: readonly string[]): string[] {
  const taken = new Set<string>()
  return names.map((name, index) => {
    const base = name.trim() === '' ? `column${index}` : name.trim()
    let unique = base
    for (let n = 1; taken.has(unique.toLowerCase()); n += 1) unique = `${base}_${n}`
    taken.add(unique.toLowerCase())
    return unique
  })
}
