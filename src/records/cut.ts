/**
 * Cuts delimited records (NDJSON, CSV) out of a window: whole records up to a target, the rest stays for the next cut.
 * Where a cut ends follows from where it starts and the target alone, whatever pieces the source is read in.
 */
import type { RefusedRecord } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { ChunkFile } from './chunk-file.ts'
import type { PlainIntegers } from './plain-integers.ts'
import { RAW_BYTES, RawHead } from './raw-head.ts'
import { countLines, newlineIn, RETURN, type Splitter, type Tally, trimLineEnd } from './splitter.ts'
import { PIECE_BYTES, type Window } from './window.ts'

/** Of lines that are refused because they cannot be records, for each cut. */
const HOPELESS_BYTES = 4 << 20

/** Bytes of the source that are in the range but not in the chunk file. */
export interface Excluded {
  readonly from: number
  readonly to: number
  readonly lines: number
}

export interface CutRequest {
  /** Where the cut should end: at the last record end up to there. */
  readonly target: number
  /** The cut was planned: it ends exactly at `target`, and a source that ends before has changed. */
  readonly exact: boolean
  /** Take a last record that has no line end: nobody is writing it any more. */
  readonly settled: boolean
  /** Lines of the source before the window's position. */
  readonly linesBefore: number
  readonly maxRecordBytes: number
  readonly origin: string
  /** Looks at all that goes into the chunk file. */
  readonly integers?: PlainIntegers | undefined
}

export interface Cut {
  /** Offset in the source where the cut ends. */
  readonly to: number
  readonly records: number
  /** Lines of the source inside the cut. */
  readonly lines: number
  readonly refused: readonly RefusedRecord[]
  readonly excluded: readonly Excluded[]
  /** Offsets in the source of single carriage returns that are not in the chunk file, ascending. */
  readonly returns: readonly number[]
}

export async function cutRecords(
  window: Window,
  splitter: Splitter,
  request: CutRequest,
  file: ChunkFile,
): Promise<Cut | undefined> {
  return new DelimitedCut(window, splitter, request, file).run()
}

class DelimitedCut {
  readonly #window: Window
  #splitter: Splitter
  readonly #request: CutRequest
  readonly #file: ChunkFile
  readonly #from: number
  readonly #tally: Tally = { end: 0, records: 0, lines: 0, returns: [] }
  readonly #refused: RefusedRecord[] = []
  #hopelessBytes = 0
  readonly #excluded: Excluded[] = []
  readonly #returns: number[] = []

  constructor(window: Window, splitter: Splitter, request: CutRequest, file: ChunkFile) {
    this.#window = window
    this.#splitter = splitter
    this.#request = request
    this.#file = file
    this.#from = window.position
  }

  async run(): Promise<Cut | undefined> {
    const window = this.#window
    const { target, exact, maxRecordBytes } = this.#request
    for (;;) {
      if (await this.#takeComplete()) continue
      // What is left is the beginning of one record, or nothing.
      const room = target - window.reach
      if (room > 0) {
        if (window.length > maxRecordBytes) {
          if (!(await this.#refuseLong())) break
        } else if ((await window.fill(room)) === 0) {
          if (exact) throw sourceEnded(this.#request, window)
          if (!(await this.#takeTail())) break
        }
      } else if (exact) {
        if (window.position >= target || !(await this.#takeTail())) break
      } else if (window.position > this.#from || !(await this.#takeFirst())) break
    }
    if (window.position === this.#from) return undefined
    const { records, lines } = this.#tally
    return {
      to: window.position,
      records,
      lines,
      refused: this.#refused,
      excluded: this.#excluded,
      returns: this.#returns,
    }
  }

  /** Everything complete between the window's start and the target. true: something was set aside, look again. */
  async #takeComplete(): Promise<boolean> {
    const window = this.#window
    const from = window.start
    const to = Math.min(window.end, from + Math.max(0, this.#request.target - window.position))
    const stop = this.#splitter.scan(window.bytes, from, to, this.#request.maxRecordBytes, this.#tally)
    await this.#put(this.#withoutReturns(this.#tally.end))
    window.consume(this.#tally.end - from)
    if (stop === 'more') return false
    if (stop === 'blank') this.#exclude(newlineIn(window.bytes, window.start, to) + 1 - window.start)
    else if (stop === 'hopeless') this.#refuseHopeless(to)
    else this.#refuseLine(to, 'RECORD_TOO_LARGE')
    return true
  }

  /** What is refused is held: of a source that is something else altogether the rest is left to the engine. */
  #refuseHopeless(to: number): void {
    const { bytes, start } = this.#window
    this.#refuseLine(to, 'RECORD_MALFORMED')
    this.#file.pass(bytes, start, this.#window.start)
    this.#hopelessBytes += this.#window.start - start
    if (this.#hopelessBytes > HOPELESS_BYTES) this.#splitter = this.#splitter.hopeless?.taking ?? this.#splitter
  }

  /** One record is longer than the whole cut should be: the cut ends with it. false: it is not complete yet. */
  async #takeFirst(): Promise<boolean> {
    const window = this.#window
    for (;;) {
      const end = this.#splitter.next(window.bytes, window.start, window.end)
      if (end !== -1) {
        if (end - window.start > this.#request.maxRecordBytes) this.#refuseLine(end, 'RECORD_TOO_LARGE')
        else if (this.#splitter.hopeless?.is(window.bytes, window.start, end - 1) === true) this.#refuseHopeless(end)
        else await this.#take(end)
        return true
      }
      if (window.length > this.#request.maxRecordBytes) return this.#refuseLong()
      if ((await window.fill(PIECE_BYTES + window.length)) === 0) return this.#takeTail()
    }
  }

  /** The last record of the source, without a line end. false: none, or it has to wait. */
  async #takeTail(): Promise<boolean> {
    const { bytes, start } = this.#window
    const end = Math.min(this.#window.end, start + Math.max(0, this.#request.target - this.#window.position))
    const stop = this.#request.exact ? end : this.#window.end
    if (stop <= start) return false
    const final = this.#request.exact || (this.#request.settled && this.#window.failure === undefined)
    if (!final && (this.#window.failure !== undefined || !this.#splitter.whole(bytes, start, stop))) return false
    if (stop - start > this.#request.maxRecordBytes) this.#refuseLine(stop, 'RECORD_TOO_LARGE')
    else if (this.#splitter.broken(bytes, start, stop)) this.#refuseLine(stop, 'RECORD_MALFORMED')
    else await this.#take(stop)
    return true
  }

  async #take(end: number): Promise<void> {
    const window = this.#window
    const { bytes, start } = window
    const stop = trimLineEnd(bytes, start, end)
    const blank = this.#splitter.blank(bytes, start, stop)
    if (blank && this.#splitter.dropsBlank) return this.#exclude(end - start)
    this.#tally.lines += countLines(bytes, start, end)
    if (this.#splitter.dropsReturns && stop < end && bytes[stop] === RETURN) this.#tally.returns.push(stop)
    await this.#put(this.#withoutReturns(end))
    if (!blank) this.#tally.records += 1
    window.consume(end - start)
  }

  /** What stands from the window's start up to `end` is written while the window is filled on; a small one waits for that rather than be two. */
  async #put(end: number): Promise<void> {
    const { bytes, start } = this.#window
    this.#request.integers?.look(bytes, start, end)
    if (bytes.length < PIECE_BYTES) await this.#file.append(bytes, start, end)
    else if (await this.#file.lend(bytes, start, end)) this.#window.lend()
  }

  /** Closes the gaps that the scan's carriage returns leave before `end`, all of which is consumed next; the new end. */
  #withoutReturns(end: number): number {
    const { returns } = this.#tally
    const { bytes, start, position } = this.#window
    let written = returns[0] ?? end
    for (const [index, at] of returns.entries()) {
      const stop = returns[index + 1] ?? end
      bytes.copyWithin(written, at + 1, stop)
      written += stop - at - 1
      this.#returns.push(position + at - start)
    }
    returns.length = 0
    return written
  }

  /** Refuses from the window's start to the next line end: the one place where a reader can find its feet again. */
  #refuseLine(to: number, reason: 'RECORD_TOO_LARGE' | 'RECORD_MALFORMED'): void {
    const { bytes, start } = this.#window
    const newline = newlineIn(bytes, start, to)
    const end = newline === -1 ? to : newline + 1
    const raw = Buffer.from(bytes.subarray(start, Math.min(start + RAW_BYTES, trimLineEnd(bytes, start, end))))
    this.#refuse(raw, this.#window.position, trimLineEnd(bytes, start, end) - start, reason)
    this.#exclude(end - start)
  }

  /** A record beyond the limit whose line end is not in sight: its bytes are passed over, not held. false: the source
   *  ended first, and somebody may still be writing the line. */
  async #refuseLong(): Promise<boolean> {
    const window = this.#window
    const { exact, target, settled } = this.#request
    const from = window.position
    const raw = new RawHead()
    let carriageReturn = false
    for (;;) {
      const limit = exact ? Math.min(window.end, window.start + target - window.position) : window.end
      const newline = newlineIn(window.bytes, window.start, limit)
      const end = newline === -1 ? limit : newline
      if (end > window.start) carriageReturn = window.bytes[end - 1] === 13
      raw.add(window.bytes, window.start, end)
      window.consume(end - window.start)
      if (newline !== -1) break
      const room = exact ? target - window.reach : PIECE_BYTES
      if ((await window.fill(room)) > 0) continue
      if (exact && window.position < target) throw sourceEnded(this.#request, window)
      if (exact || (settled && window.failure === undefined)) break
      window.rewindTo(from)
      return false
    }
    const lineEnd = window.length > 0 && (!exact || window.position < target)
    const length = window.position - from - (carriageReturn && lineEnd ? 1 : 0)
    this.#refuse(raw.take(length), from, length, 'RECORD_TOO_LARGE')
    if (lineEnd) window.consume(1)
    this.#note(from, window.position, lineEnd ? 1 : 0)
    return true
  }

  #refuse(raw: Buffer, byteFrom: number, length: number, reason: 'RECORD_TOO_LARGE' | 'RECORD_MALFORMED'): void {
    const message =
      reason === 'RECORD_TOO_LARGE'
        ? `a record is larger than ${this.#request.maxRecordBytes} bytes`
        : (this.#splitter.hopeless?.why(raw) ?? 'a quoted field is never closed')
    const line = this.#request.linesBefore + this.#tally.lines + 1
    this.#refused.push({ reason, message, raw, byteFrom, byteTo: byteFrom + length, line })
  }

  #exclude(length: number): void {
    const window = this.#window
    const from = window.position
    const lines = countLines(window.bytes, window.start, window.start + length)
    window.consume(length)
    this.#note(from, window.position, lines)
  }

  #note(from: number, to: number, lines: number): void {
    this.#tally.lines += lines
    const last = this.#excluded.at(-1)
    if (last?.to !== from) this.#excluded.push({ from, to, lines })
    else this.#excluded[this.#excluded.length - 1] = { from: last.from, to, lines: last.lines + lines }
  }
}

export function sourceEnded(request: { readonly origin: string; readonly target: number }, window: Window): Error {
  if (window.failure instanceof Error) return window.failure
  return new AdflowError(
    'SOURCE_CHANGED',
    `${request.origin} was planned up to byte ${request.target} but ends at byte ${window.reach}`,
    { hint: 'bring the file back as it was, or move the position on with `adflow state set`' },
  )
}
