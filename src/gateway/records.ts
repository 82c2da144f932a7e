/** The events of a body: each one whole JSON object, as its own bytes on a line of its own. What is none is named. */
import { isUtf8 } from 'node:buffer'
import { isJsonSpace, JsonScanner } from '../records/json-scanner.ts'

export type BodyKind = 'json' | 'ndjson'

export interface SplitLimits {
  readonly maxEvents: number
  readonly maxEventBytes: number
}

export type Reason = 'not_json' | 'not_an_object' | 'not_utf8' | 'too_large'

export interface RejectedRecord {
  /** From 0, of the records of the body; blank lines are none. */
  readonly index: number
  /** NDJSON: from 1. */
  readonly line?: number
  readonly reason: Reason
}

export interface SplitBody {
  /** The good ones as NDJSON. */
  readonly payload: Buffer
  readonly records: number
  readonly rejected: readonly RejectedRecord[]
}

/** Nothing of the body can be taken. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
  readonly code: 'malformed' | 'empty' | 'too_many_events'

  constructor(code: BodyError['code'], message: string) {
    super(message)
    this.code = code
  }
}

const NEWLINE = 10
const RETURN = 13
const SPACE = 32
const COMMA = 44
const COLON = 58
const OPEN_ARRAY = 91
const CLOSE_ARRAY = 93
const OPEN_OBJECT = 123
const CLOSE_OBJECT = 125
const LINE_END = Buffer.from('\n')

/** @throws BodyError */
export function splitBody(kind: BodyKind, body: Buffer, limits: SplitLimits): SplitBody {
  const splitter = new BodySplitter(body, limits)
  return kind === 'ndjson' ? splitter.lines() : splitter.document()
}

class BodySplitter {
  readonly #body: Buffer
  readonly #limits: SplitLimits
  readonly #utf8: boolean
  readonly #parts: Buffer[] = []
  readonly #rejected: RejectedRecord[] = []
  #records = 0
  /** Bytes that are taken as they stand, line ends and all. */
  #runFrom = 0
  #runTo = 0

  constructor(body: Buffer, limits: SplitLimits) {
    this.#body = body
    this.#limits = limits
    this.#utf8 = isUtf8(body)
  }

  lines(): SplitBody {
    const body = this.#body
    let line = 0
    for (let from = 0; from < body.length; ) {
      const newline = body.indexOf(NEWLINE, from)
      const to = newline === -1 ? body.length : newline
      line += 1
      if (!this.#isBlank(from, to)) this.#take(from, to, line)
      from = to + 1
    }
    return this.#end()
  }

  document(): SplitBody {
    const body = this.#body
    const first = this.#skipSpace(0)
    if (body[first] === OPEN_ARRAY) this.#elements(first + 1)
    else if (first < body.length) this.#take(first, body.length)
    return this.#end()
  }

  #elements(start: number): void {
    const body = this.#body
    const scanner = new JsonScanner()
    let at = this.#skipSpace(start)
    let more = body[at] !== CLOSE_ARRAY
    if (!more) at += 1
    for (; more; at += 1) {
      at = this.#skipSpace(at)
      if (at >= body.length || isBracket(body[at])) throw this.#malformed(at)
      scanner.reset()
      const stop = scanner.scan(body, at, body.length)
      if (stop < 0) throw this.#malformed(stop === -1 ? body.length : scanner.brokenAt)
      this.#take(at, stop)
      at = this.#skipSpace(stop)
      if (body[at] !== COMMA && body[at] !== CLOSE_ARRAY) throw this.#malformed(at)
      more = body[at] === COMMA
    }
    this.#nothingAfter(at)
  }

  #take(start: number, stop: number, line?: number): void {
    const body = this.#body
    const from = this.#skipSpace(start)
    let to = stop
    while (to > from && isJsonSpace(body[to - 1])) to -= 1
    const index = this.#records + this.#rejected.length
    if (index >= this.#limits.maxEvents)
      throw new BodyError('too_many_events', `a body has at most ${this.#limits.maxEvents} events: send several`)
    const reason = this.#fault(from, to)
    if (reason !== undefined) {
      this.#rejected.push({ index, ...(line === undefined ? {} : { line }), reason })
      return
    }
    this.#records += 1
    const record = body.subarray(from, to)
    if (record.includes(NEWLINE) || record.includes(RETURN)) {
      this.#flush()
      this.#parts.push(onOneLine(record), LINE_END)
    } else if (body[to] === NEWLINE) this.#run(from, to + 1)
    else {
      this.#run(from, to)
      this.#flush()
      this.#parts.push(LINE_END)
    }
  }

  /** undefined: it is one whole JSON object. */
  #fault(from: number, to: number): Reason | undefined {
    const body = this.#body
    if (to - from > this.#limits.maxEventBytes) return 'too_large'
    if (!this.#utf8 && !isUtf8(body.subarray(from, to))) return 'not_utf8'
    try {
      // Only asked whether it holds: what is kept are the bytes.
      JSON.parse(body.toString('utf8', from, to))
    } catch {
      return 'not_json'
    }
    return body[from] === OPEN_OBJECT ? undefined : 'not_an_object'
  }

  #run(from: number, to: number): void {
    if (from !== this.#runTo) this.#flush()
    if (this.#runFrom === this.#runTo) this.#runFrom = from
    this.#runTo = to
  }

  #flush(): void {
    if (this.#runTo > this.#runFrom) this.#parts.push(this.#body.subarray(this.#runFrom, this.#runTo))
    this.#runFrom = this.#runTo
  }

  #end(): SplitBody {
    this.#flush()
    if (this.#records + this.#rejected.length === 0) throw new BodyError('empty', 'the body has no event')
    const [only] = this.#parts
    const payload = this.#parts.length === 1 && only !== undefined ? only : Buffer.concat(this.#parts)
    return { payload, records: this.#records, rejected: this.#rejected }
  }

  #nothingAfter(at: number): void {
    const next = this.#skipSpace(at)
    if (next < this.#body.length) throw this.#malformed(next)
  }

  #skipSpace(from: number): number {
    let at = from
    while (at < this.#body.length && isJsonSpace(this.#body[at])) at += 1
    return at
  }

  #isBlank(from: number, to: number): boolean {
    let at = from
    while (at < to && isJsonSpace(this.#body[at])) at += 1
    return at === to
  }

  #malformed(at: number): BodyError {
    return new BodyError('malformed', `the array does not hold at byte ${at}: nothing of it was taken`)
  }
}

/** Line ends stand between tokens only: inside a string they are no JSON. */
function onOneLine(record: Buffer): Buffer {
  const line = Buffer.from(record)
  for (let at = 0; at < line.length; at += 1) if (line[at] === NEWLINE || line[at] === RETURN) line[at] = SPACE
  return line
}

/** A comma, a colon or a closing bracket where a value should begin. */
function isBracket(byte: number | undefined): boolean {
  return byte === COMMA || byte === COLON || byte === CLOSE_ARRAY || byte === CLOSE_OBJECT
}
