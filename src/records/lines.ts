/** NDJSON: a record is a line that is not blank. */
import { compiledOf } from './compiled.ts'
import { RAW_BYTES } from './raw-head.ts'
import { NEWLINE, newlineIn, RETURN, type ScanStop, type Splitter, type Tally, trimLineEnd } from './splitter.ts'

const SPACE = 32
const TAB = 9
const QUOTE = 34
const COMMA = 44
const OPENING_BRACE = 123
const CLOSING_BRACE = 125

export const lines: Splitter = {
  scan: (bytes, from, to, maxRecordBytes, tally) => scan(bytes, from, to, maxRecordBytes, tally, false),
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

/** Stops at lines that do not begin and end as an object does, `{"` or `{}` and `}`. Found here they cost nothing; the engine would have to read the chunk once
 *  more to find them. `why`: what is wrong with such a line. */
export function objectLines(why: (raw: Buffer) => string): Splitter {
  return {
    ...lines,
    scan: (bytes, from, to, maxRecordBytes, tally) => scan(bytes, from, to, maxRecordBytes, tally, true),
    hopeless: {
      is: (bytes, from, to) => !isBlank(bytes, from, to) && !mayBeObject(bytes, from, to),
      why,
      taking: lines,
    },
  }
}

function scan(
  bytes: Buffer,
  from: number,
  to: number,
  maxRecordBytes: number,
  tally: Tally,
  objectsOnly: boolean,
): ScanStop {
  // A view that ends at `to`: the search must not run on into what an earlier piece left behind.
  const view = bytes.subarray(0, to)
  const { byteOffset: base } = bytes
  // Nearly all lines are objects: where it can, compiled code passes over these.
  const compiled = compiledOf(bytes.buffer)?.compiled
  let count = compiled?.objectLines(base + from, base + to, maxRecordBytes) ?? 0
  let start = compiled === undefined ? from : compiled.stopped.value - base
  let blanks = 0
  let stop: ScanStop = 'more'
  for (let at = view.indexOf(NEWLINE, start); at !== -1; at = view.indexOf(NEWLINE, start)) {
    if (at - start >= maxRecordBytes) {
      stop = 'oversized'
      break
    }
    // A look at the first two bytes and one at the last settle nearly every line.
    const first = view[start] as number
    const plain = first === OPENING_BRACE && view[start + 1] === QUOTE && view[at - 1] === CLOSING_BRACE
    if (first <= SPACE && isBlank(view, start, at)) blanks += 1
    else if (objectsOnly && !plain && !mayBeObject(view, start, at)) {
      stop = 'hopeless'
      break
    }
    count += 1
    start = at + 1
  }
  tally.end = start
  tally.records += count - blanks
  tally.lines += count
  return stop
}

/** Not blank. Whether the engine takes a comma for a member is left to it. A long line is left to the engine: of one that is refused here not all would be kept. */
function mayBeObject(bytes: Buffer, from: number, to: number): boolean {
  if (to - from > RAW_BYTES) return true
  let start = from
  let end = to
  while (isSpace(bytes[start])) start += 1
  while (isSpace(bytes[end - 1])) end -= 1
  if (bytes[start] !== OPENING_BRACE || bytes[end - 1] !== CLOSING_BRACE) return false
  do start += 1
  while (isSpace(bytes[start]))
  const next = bytes[start]
  return next === QUOTE || next === CLOSING_BRACE || next === COMMA
}

function isSpace(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB || byte === RETURN
}

function isBlank(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) {
    if (!isSpace(bytes[at])) return false
  }
  return true
}
