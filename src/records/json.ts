/**
 * JSON that is not one record per line: top-level arrays, pretty-printed or concatenated values. Cut into records and
 * written one per line, line ends between tokens as spaces; where each record stood in the source is kept beside it.
 * Positions are offsets after a record, so that a reader can go on inside an array.
 */
import type { RefusedRecord } from '../core/contracts.ts'
import type { ChunkFile } from './chunk-file.ts'
import { type CutRequest, sourceEnded } from './cut.ts'
import { BROKEN, INCOMPLETE, isJsonSpace, JsonScanner } from './json-scanner.ts'
import { JsonSpans } from './json-spans.ts'
import { RawHead } from './raw-head.ts'
import { NEWLINE, newlineIn } from './splitter.ts'
import { PIECE_BYTES, type Window } from './window.ts'

export interface JsonPlace {
  /** Offset after the last record. */
  readonly at: number
  /** Line ends before `at`. */
  readonly lines: number
  /** `at` is inside a top-level array. */
  readonly array: boolean
}

export interface JsonCut extends JsonPlace {
  readonly records: number
  readonly refused: readonly RefusedRecord[]
  readonly spans: JsonSpans
}

/** Bounds the memory of the spans, where records are tiny. */
const MAX_RECORDS = 1_000_000
const COMMA = 44
const OPEN_OBJECT = 123
const OPEN_ARRAY = 91
const CLOSE_ARRAY = 93
const LINE_END = Buffer.from('\n')

type Refusal = 'RECORD_TOO_LARGE' | 'RECORD_MALFORMED'
type JsonRequest = Omit<CutRequest, 'linesBefore'>

/** Cuts one source, one cut after the other. */
export class JsonCutter {
  readonly #window: Window
  readonly #scanner = new JsonScanner()
  /** After the last record that was cut. */
  #place: JsonPlace
  /** Where the window stands: separators may have been passed since. */
  #lines: number
  #array: boolean
  /** Bytes of the record at the window's start that the scanner has seen. */
  #scanned = 0
  /** Offset where the present line starts, while nothing but white space was seen on it; else -1. */
  #lineStart: number
  /** Width of the white space before the record on its line; 0 where other text stands there. */
  #indent = 0
  #output = Buffer.allocUnsafeSlow(PIECE_BYTES)
  #outputLength = 0

  constructor(window: Window, place: JsonPlace) {
    this.#window = window
    this.#place = place
    this.#lines = place.lines
    this.#array = place.array
    this.#lineStart = place.at === 0 ? window.position : -1
  }

  async cut(request: JsonRequest, file: ChunkFile): Promise<JsonCut | undefined> {
    const { target, exact, maxRecordBytes } = request
    const window = this.#window
    const from = this.#place.at
    const spans = new JsonSpans()
    const refused: RefusedRecord[] = []
    let extending = false
    while (spans.count < MAX_RECORDS) {
      const limit = this.#limit(extending ? Number.POSITIVE_INFINITY : target)
      if (this.#scanned === 0 && !this.#reachRecord(limit)) {
        if (window.position >= target && (exact || this.#place.at > from)) break
        if (await this.#more(request, extending)) continue
        if (window.ended || this.#place.at > from) break
        extending = true
        continue
      }
      const end = this.#scan(limit, maxRecordBytes)
      if (end === INCOMPLETE && this.#scanned < maxRecordBytes) {
        if (await this.#more(request, extending)) continue
        if (!exact && !window.ended) {
          if (this.#place.at > from) break
          extending = true
          continue
        }
        if (!this.#isFinal(request)) break
        if (this.#scanner.endsWithSource) await this.#take(window.start + this.#scanned, spans, file)
        else if (!(await this.#refuse(request, 'RECORD_MALFORMED', refused))) break
      } else if (end === BROKEN) {
        if (!(await this.#refuse(request, 'RECORD_MALFORMED', refused))) break
      } else if (end === INCOMPLETE) {
        if (!(await this.#refuse(request, 'RECORD_TOO_LARGE', refused))) break
      } else await this.#take(end, spans, file)
      if (extending) break
    }
    await this.#flush(file)
    if (this.#place.at === from) return undefined
    return { ...this.#place, records: spans.count, refused, spans }
  }

  /** Nothing but separators is left of the source. Reads on as far as the next record. */
  async exhausted(): Promise<boolean> {
    const window = this.#window
    while (this.#scanned === 0 && !this.#reachRecord(window.end)) {
      if (window.ended) return window.failure === undefined
      await window.fill(PIECE_BYTES)
    }
    return false
  }

  #limit(target: number): number {
    const { start, end, position } = this.#window
    return Math.min(end, start + Math.max(0, target - position))
  }

  /** Reads on; false at the target or at the end of the source. */
  async #more(request: JsonRequest, extending: boolean): Promise<boolean> {
    const window = this.#window
    const room = extending ? PIECE_BYTES + window.length : request.target - window.reach
    if (room <= 0) return false
    if ((await window.fill(room)) > 0) return true
    if (request.exact) throw sourceEnded(request, window)
    return false
  }

  #isFinal(request: JsonRequest): boolean {
    return request.exact || (request.settled && this.#window.failure === undefined)
  }

  /** Passes what stands between records; false when none begins before `limit`. */
  #reachRecord(limit: number): boolean {
    const window = this.#window
    const { bytes, start, position } = window
    let at = start
    for (; at < limit; at += 1) {
      const byte = bytes[at] as number
      if (byte === NEWLINE) {
        this.#lines += 1
        this.#lineStart = position + at + 1 - start
        continue
      }
      if (isJsonSpace(byte)) continue
      if (byte === OPEN_ARRAY && !this.#array) this.#array = true
      else if (byte === CLOSE_ARRAY && this.#array) this.#array = false
      else if (byte !== COMMA) break
      this.#lineStart = -1
    }
    this.#indent = this.#lineStart === -1 ? 0 : position + at - start - this.#lineStart
    window.consume(at - start)
    return at < limit
  }

  /** Scans on, but not past the record limit: what is too large must not depend on the size of the pieces. */
  #scan(limit: number, maxRecordBytes: number): number {
    const { bytes, start } = this.#window
    if (this.#scanned === 0) this.#scanner.reset()
    const to = Math.min(limit, start + maxRecordBytes)
    const end = this.#scanner.scan(bytes, start + this.#scanned, to)
    this.#scanned = to - start
    return end
  }

  async #take(end: number, spans: JsonSpans, file: ChunkFile): Promise<void> {
    const window = this.#window
    const { bytes, start, position } = window
    const length = end - start
    if (this.#outputLength + length + 1 > this.#output.length) await this.#flush(file)
    const multiline = this.#scanner.lines > 0
    if (length + 1 > this.#output.length && !multiline) {
      await file.append(bytes, start, end)
      await file.append(LINE_END, 0, 1)
    } else {
      if (length + 1 > this.#output.length) this.#output = Buffer.allocUnsafeSlow(length + 1)
      const at = this.#outputLength
      bytes.copy(this.#output, at, start, end)
      this.#output[at + length] = NEWLINE
      if (multiline) lineEndsToSpaces(this.#output, at, at + length)
      this.#outputLength += length + 1
    }
    spans.add(position, position + length, this.#lines + 1, multiline)
    this.#lines += this.#scanner.lines
    window.consume(length)
    this.#settle()
  }

  async #flush(file: ChunkFile): Promise<void> {
    await file.append(this.#output, 0, this.#outputLength)
    this.#outputLength = 0
    if (this.#output.length > PIECE_BYTES) this.#output = Buffer.allocUnsafeSlow(PIECE_BYTES)
  }

  #settle(): void {
    this.#scanned = 0
    this.#lineStart = -1
    this.#place = { at: this.#window.position, lines: this.#lines, array: this.#array }
  }

  /**
   * Passes over a record that cannot be taken, holding only its first bytes. Too large: to its end. Malformed: up to the
   * next line that begins as this record's line did, or to the end of the source. false: the source ended first and
   * may still grow.
   */
  async #refuse(request: JsonRequest, reason: Refusal, refused: RefusedRecord[]): Promise<boolean> {
    const window = this.#window
    const from = window.position
    const line = this.#lines + 1
    const raw = new RawHead()
    const drop = (end: number): void => {
      raw.add(window.bytes, window.start, end)
      window.consume(end - window.start)
    }
    const malformed = reason === 'RECORD_MALFORMED' || !(await this.#passLarge(request, drop))
    const found = !malformed || (await this.#passBroken(request, drop))
    if (!found && !this.#isFinal(request)) {
      window.rewindTo(from)
      return false
    }
    const message = malformed
      ? 'the JSON structure does not hold: a bracket or quote is missing'
      : `a record is larger than ${request.maxRecordBytes} bytes`
    refused.push({
      reason,
      message,
      raw: raw.take(window.position - from),
      byteFrom: from,
      byteTo: window.position,
      line,
    })
    this.#settle()
    return true
  }

  /** false: its end cannot be found. */
  async #passLarge(request: JsonRequest, drop: (end: number) => void): Promise<boolean> {
    const window = this.#window
    drop(window.start + this.#scanned)
    this.#scanned = 0
    for (;;) {
      const limit = this.#limit(request.exact ? request.target : Number.POSITIVE_INFINITY)
      const end = this.#scanner.scan(window.bytes, window.start, limit)
      if (end >= 0) {
        drop(end)
        this.#lines += this.#scanner.lines
        return true
      }
      if (end === BROKEN) {
        drop(this.#scanner.brokenAt)
        this.#lines += this.#scanner.lines
        return false
      }
      drop(limit)
      if (!(await this.#readPast(request))) {
        this.#lines += this.#scanner.lines
        return false
      }
    }
  }

  /** false: the source, or the planned range, ended first. */
  async #passBroken(request: JsonRequest, drop: (end: number) => void): Promise<boolean> {
    const window = this.#window
    for (;;) {
      const limit = this.#limit(request.exact ? request.target : Number.POSITIVE_INFINITY)
      const newline = newlineIn(window.bytes, window.start, limit)
      drop(newline === -1 ? limit : newline)
      if (newline !== -1) {
        while (this.#limit(request.exact ? request.target : Number.POSITIVE_INFINITY) - window.start < this.#indent + 2)
          if (!(await this.#readPast(request))) break
        if (this.#beginsRecord()) return true
        drop(window.start + 1)
        this.#lines += 1
      } else if (!(await this.#readPast(request))) return false
    }
  }

  /** After the line end at the window's start: as much white space as before the refused record, and an object. */
  #beginsRecord(): boolean {
    const { bytes, start, end } = this.#window
    const at = start + 1 + this.#indent
    if (at >= end || bytes[at] !== OPEN_OBJECT) return false
    for (let back = start + 1; back < at; back += 1) if (!isJsonSpace(bytes[back])) return false
    return true
  }

  async #readPast(request: JsonRequest): Promise<boolean> {
    return (await this.#window.fill(request.exact ? request.target - this.#window.reach : PIECE_BYTES)) > 0
  }
}

function lineEndsToSpaces(bytes: Buffer, from: number, to: number): void {
  for (let at = newlineIn(bytes, from, to); at !== -1; at = newlineIn(bytes, at + 1, to)) bytes[at] = 32
}
