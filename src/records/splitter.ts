/** What a format of delimited records must be able to do. Splitters keep no state: they are asked from a record's start. */

/** Running totals of one scan; reused, so that the hot loop allocates nothing. */
export interface Tally {
  /** Index after the last complete record (or blank line) that was taken. */
  end: number
  /** Records that are not blank. */
  records: number
  /** Line ends, those inside quotes included. */
  lines: number
  /** Indices of the carriage returns of this scan that end a record and stay out of the chunk file, ascending. */
  readonly returns: number[]
}

/**
 * Why a scan stopped at `tally.end`: `more` – the rest is no complete record yet; `oversized` – the record there is longer
 * than the limit; `blank` – the line there is blank and stays out (see dropsBlank); `hopeless` – the line there cannot be a record.
 */
export type ScanStop = 'more' | 'oversized' | 'blank' | 'hopeless'

export interface Splitter {
  /** Takes the complete records of `bytes[from, to)`; a record starts at `from`. */
  scan(bytes: Buffer, from: number, to: number, maxRecordBytes: number, tally: Tally): ScanStop
  /** Index after the first record of `bytes[from, to)`, its line end included; -1 when it is not complete. */
  next(bytes: Buffer, from: number, to: number): number
  /** Blank lines stay out of the chunk file: the engine would take them for rows. */
  readonly dropsBlank: boolean
  /** Carriage returns before line ends stay out of the chunk file: the engine guesses the line end by the first one that it
   *  sees, inside quotes too, and refuses a file with another. */
  readonly dropsReturns: boolean
  /** A record may hold line ends. */
  readonly multiline: boolean
  /** The record (without its line end) does not count. */
  blank(bytes: Buffer, from: number, to: number): boolean
  /** The last record of a source, which has no line end, is whole beyond doubt: no writer can be in the middle of it. */
  whole(bytes: Buffer, from: number, to: number): boolean
  /** The last record of a source is cut off for certain (an open quote); it must not be taken as it stands. */
  broken(bytes: Buffer, from: number, to: number): boolean
  /** Of a splitter that stops at lines that cannot be records. */
  readonly hopeless?: {
    /** Of a line without its line end. */
    is(bytes: Buffer, from: number, to: number): boolean
    /** What is wrong with the line. */
    why(raw: Buffer): string
    /** The same splitter, taking them. */
    readonly taking: Splitter
  }
}

export const NEWLINE = 10
export const RETURN = 13

/** Index of the first line end in `[from, to)`, or -1. */
export function newlineIn(bytes: Buffer, from: number, to: number): number {
  const at = bytes.indexOf(NEWLINE, from)
  return at >= to ? -1 : at
}

/** End of a record without its line end, LF or CRLF. */
export function trimLineEnd(bytes: Buffer, from: number, to: number): number {
  let end = to
  if (end > from && bytes[end - 1] === NEWLINE) end -= 1
  if (end > from && bytes[end - 1] === RETURN) end -= 1
  return end
}

export function countLines(bytes: Buffer, from: number, to: number): number {
  let count = 0
  for (let at = newlineIn(bytes, from, to); at !== -1; at = newlineIn(bytes, at + 1, to)) count += 1
  return count
}
