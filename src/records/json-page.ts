/**
 * Cuts the records out of one JSON document, where they stand at a path, without reading it as values: a number never passes
 * through a number of JavaScript. Values at other paths (where the next page is) are caught on the way, before or after them.
 */

import type { FoundRecords } from './found-records.ts'
import { BROKEN, INCOMPLETE, isJsonSpace, JsonScanner } from './json-scanner.ts'
import { PIECE_BYTES, type Window } from './window.ts'

/** Keys from the top of the document; empty: the document itself. */
export type JsonPath = readonly string[]

/** Takes a record; it is valid during the call only. `lines`: line ends between its tokens. */
export type TakeRecord = (bytes: Buffer, from: number, to: number, lines: number) => void

export interface JsonPageOptions {
  /** Of an array of records, or of one. */
  readonly records: JsonPath
  /** Name → path of a value that is wanted as it stands. */
  readonly values: Readonly<Record<string, JsonPath>>
  /** Of one record; longer ones are an error here. */
  readonly maxRecordBytes: number
  readonly take: TakeRecord
  /** Where the window is a buffer of `found`: takes all that was found in it. */
  readonly many?: { readonly found: FoundRecords; take(found: FoundRecords, bytes: Buffer): void }
  /** Called between records: a place to wait. */
  rest(): Promise<void>
}

export type JsonFault = 'malformed' | 'cut off' | 'no records' | 'too large'

/** The document is not what it should be; `at` is the offset of a byte. */
export class JsonPageError extends Error {
  override readonly name = 'JsonPageError'
  readonly fault: JsonFault
  readonly at: number

  constructor(fault: JsonFault, at: number) {
    super(`${fault} at byte ${at}`)
    this.fault = fault
    this.at = at
  }
}

interface Wanted {
  readonly children: Map<string, Wanted>
  records: boolean
  values: string[]
}

const QUOTE = 34
const COMMA = 44
const COLON = 58
const OPEN_ARRAY = 91
const CLOSE_ARRAY = 93
const OPEN_OBJECT = 123
const CLOSE_OBJECT = 125
const LONGEST_VALUE = 1 << 20

/** Reads the window to its end. Resolves to the JSON text of the values that are there. @throws JsonPageError, or why the source ended early */
export function readJsonPage(window: Window, options: JsonPageOptions): Promise<Readonly<Record<string, string>>> {
  return new JsonPage(window, options).read()
}

class JsonPage {
  readonly #window: Window
  readonly #options: JsonPageOptions
  readonly #scanner = new JsonScanner()
  readonly #found: Record<string, string> = {}
  #reached = false

  constructor(window: Window, options: JsonPageOptions) {
    this.#window = window
    this.#options = options
  }

  async read(): Promise<Readonly<Record<string, string>>> {
    const top = wanted()
    for (const [name, path] of Object.entries(this.#options.values)) at(top, path).values.push(name)
    at(top, this.#options.records).records = true
    await this.#value(top)
    if ((await this.#next()) !== undefined) throw this.#fault('malformed')
    if (!this.#reached) throw this.#fault('no records')
    return this.#found
  }

  async #value(node: Wanted | undefined): Promise<void> {
    const first = await this.#need()
    if (node?.records === true) {
      this.#reached = true
      if (first === OPEN_ARRAY) await this.#elements()
      else if (first === OPEN_OBJECT) await this.#record()
      else if ((await this.#text()) !== 'null') throw this.#fault('malformed')
      return
    }
    if (node !== undefined && node.values.length > 0) {
      const text = await this.#text()
      for (const name of node.values) this.#found[name] = text
    } else if (node !== undefined && node.children.size > 0 && first === OPEN_OBJECT) await this.#object(node)
    else await this.#skip()
  }

  async #object(node: Wanted): Promise<void> {
    this.#window.consume(1)
    if ((await this.#need()) === CLOSE_OBJECT) return this.#window.consume(1)
    for (;;) {
      if ((await this.#need()) !== QUOTE) throw this.#fault('malformed')
      const key = keyOf(await this.#text())
      if (key === undefined || (await this.#need()) !== COLON) throw this.#fault('malformed')
      this.#window.consume(1)
      await this.#value(node.children.get(key))
      if (await this.#last(CLOSE_OBJECT)) return
    }
  }

  async #elements(): Promise<void> {
    this.#window.consume(1)
    if ((await this.#need()) === CLOSE_ARRAY) return this.#window.consume(1)
    for (;;) {
      await this.#need()
      await this.#record()
      while (this.#nextMany() || this.#nextWhole());
      await this.#options.rest()
      if (await this.#last(CLOSE_ARRAY)) return
    }
  }

  /** Commas and records that are in the window already, where all is as usual. */
  #nextMany(): boolean {
    const { many, maxRecordBytes } = this.#options
    const { bytes, start, end } = this.#window
    const stop = many?.found.find(bytes, start, end, maxRecordBytes) ?? start
    if (many === undefined || stop === start) return false
    many.take(many.found, bytes)
    this.#window.consume(stop - start)
    return true
  }

  /** A comma and a record that are in the window already: no promise for each. */
  #nextWhole(): boolean {
    const { bytes, end } = this.#window
    let start = this.#window.start
    while (start < end && isJsonSpace(bytes[start])) start += 1
    if (start >= end || bytes[start] !== COMMA) return false
    start += 1
    while (start < end && isJsonSpace(bytes[start])) start += 1
    if (start >= end) return false
    this.#scanner.reset()
    const stop = this.#scanner.scan(bytes, start, end)
    if (stop < 0 || stop - start > this.#options.maxRecordBytes || isBracket(bytes[start])) return false
    this.#options.take(bytes, start, stop, this.#scanner.lines)
    this.#window.consume(stop - this.#window.start)
    return true
  }

  async #record(): Promise<void> {
    const window = this.#window
    const stop = await this.#end(this.#options.maxRecordBytes)
    if (isBracket(window.bytes[window.start])) throw this.#fault('malformed')
    this.#options.take(window.bytes, window.start, stop, this.#scanner.lines)
    window.consume(stop - window.start)
  }

  async #text(): Promise<string> {
    const stop = await this.#end(LONGEST_VALUE)
    const { bytes, start } = this.#window
    if (isBracket(bytes[start])) throw this.#fault('malformed')
    const text = bytes.toString('utf8', start, stop)
    this.#window.consume(stop - start)
    return text
  }

  /** Reads on until the value at the window's start is whole; the index after it. */
  async #end(longest: number): Promise<number> {
    const window = this.#window
    this.#scanner.reset()
    let scanned = 0
    for (;;) {
      const stop = this.#scanner.scan(window.bytes, window.start + scanned, window.end)
      if (stop === BROKEN) throw this.#fault('malformed')
      if (stop !== INCOMPLETE) {
        if (stop - window.start > longest) throw this.#fault('too large')
        return stop
      }
      scanned = window.length
      if (scanned > longest) throw this.#fault('too large')
      if ((await window.fill(PIECE_BYTES)) > 0) continue
      if (this.#scanner.endsWithSource && window.failure === undefined) return window.end
      throw this.#cutOff()
    }
  }

  /** Passes a value without holding it. */
  async #skip(): Promise<void> {
    const window = this.#window
    this.#scanner.reset()
    for (;;) {
      const stop = this.#scanner.scan(window.bytes, window.start, window.end)
      if (stop === BROKEN) throw this.#fault('malformed')
      window.consume((stop === INCOMPLETE ? window.end : stop) - window.start)
      if (stop !== INCOMPLETE) return
      if ((await window.fill(PIECE_BYTES)) > 0) continue
      if (this.#scanner.endsWithSource && window.failure === undefined) return
      throw this.#cutOff()
    }
  }

  /** After a member or an element. false: there is one more. */
  async #last(closing: number): Promise<boolean> {
    const byte = await this.#need()
    if (byte !== COMMA && byte !== closing) throw this.#fault('malformed')
    this.#window.consume(1)
    return byte === closing
  }

  async #need(): Promise<number> {
    const byte = await this.#next()
    if (byte === undefined) throw this.#cutOff()
    return byte
  }

  /** The next byte that is not white space; undefined at the end. */
  async #next(): Promise<number | undefined> {
    const window = this.#window
    for (;;) {
      while (window.length > 0 && isJsonSpace(window.bytes[window.start])) window.consume(1)
      if (window.length > 0) return window.bytes[window.start]
      if ((await window.fill(PIECE_BYTES)) === 0) {
        if (window.failure !== undefined) throw window.failure
        return undefined
      }
    }
  }

  #cutOff(): unknown {
    return this.#window.failure ?? this.#fault('cut off')
  }

  #fault(fault: JsonFault): JsonPageError {
    return new JsonPageError(fault, this.#window.position)
  }
}

function wanted(): Wanted {
  return { children: new Map(), records: false, values: [] }
}

function at(top: Wanted, path: JsonPath): Wanted {
  let node = top
  for (const key of path) {
    const child = node.children.get(key) ?? wanted()
    node.children.set(key, child)
    node = child
  }
  return node
}

/** A comma or a closing bracket where a value should begin. */
function isBracket(byte: number | undefined): boolean {
  return byte === COMMA || byte === CLOSE_ARRAY || byte === CLOSE_OBJECT || byte === COLON
}

function keyOf(text: string): string | undefined {
  try {
    return JSON.parse(text) as string
  } catch {
    return undefined
  }
}
