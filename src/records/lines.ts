/** NDJSON: a record is a line that is not blank. */
import { NEWLINE, newlineIn, RETURN, type ScanStop, type Splitter, type Tally, trimLineEnd } from './splitter.ts'

const SPACE = 32
const TAB = 9
const CLOSING_BRACE = 125

export const lines: Splitter = {
  scan(bytes: Buffer, from: number, to: number, maxRecordBytes: number, tally: Tally): ScanStop {
    // A view that ends at `to`: the search must not run on into what an earlier piece left behind.
    const view = bytes.subarray(0, to)
    let start = from
    let blanks = 0
    let count = 0
    let stop: ScanStop = 'more'
    for (let at = view.indexOf(NEWLINE, start); at !== -1; at = view.indexOf(NEWLINE, start)) {
      if (at - start >= maxRecordBytes) {
        stop = 'oversized'
        break
      }
      // One look at the first byte settles nearly every line.
      if ((view[start] as number) <= SPACE && isBlank(view, start, at)) blanks += 1
      count += 1
      start = at + 1
    }
    tally.end = start
    tally.records += count - blanks
    tally.lines += count
    return stop
  },
  next(bytes, from, to) {
    const at = newlineIn(bytes, from, to)
    return at === -1 ? -1 : at + 1
  },
  dropsBlank: false,
  dropsReturns: false,
  multiline: false,
  blank: isBlank,
  whole(bytes, from, to) {
    const end = trimLineEnd(bytes, from, to)
    // No proper prefix of a JSON object is JSON: once it parses, nothing of it can be missing.
    if (bytes[end - 1] !== CLOSING_BRACE) return false
    try {
      JSON.parse(bytes.toString('utf8', from, end))
      return true
    } catch {
      return false
    }
  },
  broken: () => false,
}

function isBlank(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) {
    const byte = bytes[at]
    if (byte !== SPACE && byte !== TAB && byte !== RETURN) return false
  }
  return true
}
