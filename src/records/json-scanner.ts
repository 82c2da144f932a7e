/**
 * Finds where JSON values end, byte by byte and resumably: the scanner remembers depth and string, so a value may arrive in
 * any pieces. It checks just enough of the grammar to notice at once that a value was cut off (a line end inside a
 * string, an object that begins where none can), so that one broken record does not swallow the ones after it.
 */

export const INCOMPLETE = -1
/** The structure does not hold; where the value ends cannot be known. */
export const BROKEN = -2

const QUOTE = 34
const BACKSLASH = 92
const NEWLINE = 10
const OPEN_OBJECT = 123
const CLOSE_OBJECT = 125
const OPEN_ARRAY = 91
const CLOSE_ARRAY = 93
const COLON = 58
const COMMA = 44

const MAX_DEPTH = 1 << 20

/** Bytes that mean something outside strings: quotes, brackets, line ends. */
const STRUCTURAL = new Uint8Array(256)
for (const byte of [QUOTE, OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY, NEWLINE]) STRUCTURAL[byte] = 1

/** Bytes that mean something inside strings. */
const IN_STRING = new Uint8Array(256)
for (const byte of [QUOTE, BACKSLASH, NEWLINE]) IN_STRING[byte] = 1

const SPACE = new Uint8Array(256)
for (const byte of [9, NEWLINE, 13, 32]) SPACE[byte] = 1

/** Bytes that end a number, true, false, null or whatever stands in their place. */
const ENDS_SCALAR = new Uint8Array(256)
for (const byte of [9, NEWLINE, 13, 32, COMMA, OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY, QUOTE])
  ENDS_SCALAR[byte] = 1

export function isJsonSpace(byte: number | undefined): boolean {
  return SPACE[byte ?? 0] === 1
}

export class JsonScanner {
  /** Line ends passed inside the value so far. */
  lines = 0
  /** Index at which the last scan() found the value BROKEN. */
  brokenAt = 0
  #kind: 'none' | 'scalar' | 'string' | 'container' = 'none'
  #inString = false
  #escaped = false
  #depth = 0
  /** Per level: 1 object, 0 array. */
  #objects = new Uint8Array(64)
  /** The last byte before the present piece that is not space: what an opening bracket at its start is checked against. */
  #before = 0

  /** A number or word: it ends where the source ends; other values that are not complete there are cut off. */
  get endsWithSource(): boolean {
    return this.#kind === 'scalar'
  }

  reset(): void {
    this.lines = 0
    this.#kind = 'none'
    this.#inString = false
    this.#escaped = false
    this.#depth = 0
    this.#before = 0
  }

  /**
   * Goes on in `bytes[from, to)`, which follows what was scanned since reset(). Index after the value, INCOMPLETE (all of
   * it was scanned) or BROKEN.
   */
  scan(bytes: Buffer, from: number, to: number): number {
    if (from >= to) return INCOMPLETE
    const first = this.#kind === 'none'
    if (first) this.#kind = kindOf(bytes[from] as number)
    if (first && this.#kind === 'container') {
      const whole = this.#whole(bytes, from, to)
      if (whole !== INCOMPLETE) return whole
      this.lines = 0
    }
    const end = this.#kind === 'scalar' ? scalarEnd(bytes, from, to, first) : this.#structure(bytes, from, to)
    if (end === INCOMPLETE) this.#remember(bytes, from, to)
    return end
  }

  /**
   * An object or array that is whole and sound in these bytes, as nearly all are: what has to be remembered between pieces stands in
   * local variables, which is twice as fast. INCOMPLETE: #structure() has to say what it is.
   */
  #whole(bytes: Buffer, from: number, to: number): number {
    const objects = this.#objects
    objects[0] = bytes[from] === OPEN_OBJECT ? 1 : 0
    let depth = 1
    let lines = 0
    for (let at = from + 1; at < to; at += 1) {
      const byte = bytes[at] as number
      if (STRUCTURAL[byte] === 0) continue
      if (byte === QUOTE) {
        at += 1
        for (;;) {
          while (at < to && IN_STRING[bytes[at] as number] === 0) at += 1
          if (bytes[at] === QUOTE && at < to) break
          if (at >= to || bytes[at] === NEWLINE || bytes[at + 1] === NEWLINE) return INCOMPLETE
          at += 2
        }
      } else if (byte === NEWLINE) lines += 1
      else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
        let back = at - 1
        while (SPACE[bytes[back] as number] === 1) back -= 1
        const before = bytes[back]
        const mayOpen = objects[depth - 1] === 1 ? before === COLON : before === COMMA || before === OPEN_ARRAY
        if (!mayOpen || depth === objects.length) return INCOMPLETE
        objects[depth] = byte === OPEN_OBJECT ? 1 : 0
        depth += 1
      } else {
        depth -= 1
        if (objects[depth] !== (byte === CLOSE_OBJECT ? 1 : 0)) return INCOMPLETE
        if (depth > 0) continue
        this.lines = lines
        return at + 1
      }
    }
    return INCOMPLETE
  }

  #structure(bytes: Buffer, from: number, to: number): number {
    let at = from
    while (at < to) {
      if (this.#inString) {
        at = this.#stringEnd(bytes, at, to)
        if (at < 0) return at
        if (this.#depth === 0) return at
      }
      while (at < to && STRUCTURAL[bytes[at] as number] === 0) at += 1
      if (at === to) return INCOMPLETE
      const byte = bytes[at] as number
      if (byte === QUOTE) this.#inString = true
      else if (byte === NEWLINE) this.lines += 1
      else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
        if (!this.#mayOpen(bytes, from, at) || !this.#push(byte)) return this.#broken(at)
      } else {
        this.#depth -= 1
        if (this.#objects[this.#depth] !== (byte === CLOSE_OBJECT ? 1 : 0)) return this.#broken(at)
        if (this.#depth === 0) return at + 1
      }
      at += 1
    }
    return INCOMPLETE
  }

  #stringEnd(bytes: Buffer, from: number, to: number): number {
    let at = from
    if (this.#escaped && bytes[at] !== NEWLINE) at += 1
    this.#escaped = false
    for (; at < to; at += 1) {
      const byte = bytes[at] as number
      if (IN_STRING[byte] === 0) continue
      if (byte === QUOTE) {
        this.#inString = false
        return at + 1
      }
      if (byte === BACKSLASH) {
        this.#escaped = at + 1 === to
        if (bytes[at + 1] !== NEWLINE || this.#escaped) at += 1
      } else return this.#broken(at)
    }
    return INCOMPLETE
  }

  #broken(at: number): number {
    this.brokenAt = at
    return BROKEN
  }

  #mayOpen(bytes: Buffer, from: number, at: number): boolean {
    if (this.#depth === 0) return true
    let back = at - 1
    while (back >= from && SPACE[bytes[back] as number] === 1) back -= 1
    const before = back >= from ? (bytes[back] as number) : this.#before
    return this.#objects[this.#depth - 1] === 1 ? before === COLON : before === COMMA || before === OPEN_ARRAY
  }

  #push(byte: number): boolean {
    if (this.#depth === this.#objects.length) {
      if (this.#depth >= MAX_DEPTH) return false
      const larger = new Uint8Array(this.#objects.length * 2)
      larger.set(this.#objects)
      this.#objects = larger
    }
    this.#objects[this.#depth] = byte === OPEN_OBJECT ? 1 : 0
    this.#depth += 1
    return true
  }

  #remember(bytes: Buffer, from: number, to: number): void {
    let at = to - 1
    while (at >= from && SPACE[bytes[at] as number] === 1) at -= 1
    if (at >= from) this.#before = bytes[at] as number
  }
}

function kindOf(byte: number): 'scalar' | 'string' | 'container' {
  if (byte === QUOTE) return 'string'
  return byte === OPEN_OBJECT || byte === OPEN_ARRAY ? 'container' : 'scalar'
}

/** A byte that ends scalars, when it comes first, is a value of its own: stray brackets become records, not losses. */
function scalarEnd(bytes: Buffer, from: number, to: number, first: boolean): number {
  if (first && ENDS_SCALAR[bytes[from] as number] === 1) return from + 1
  let at = from
  while (at < to && ENDS_SCALAR[bytes[at] as number] === 0) at += 1
  return at === to ? INCOMPLETE : at
}
