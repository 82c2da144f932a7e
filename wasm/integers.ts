/**
 * Looks whether the values of some keys of JSON are integers in plain digits, 64 bytes at a time. AssemblyScript: `npm run build` makes a part of dist/records.wasm of
 * it, and src/records/plain-integers.ts calls it. Nothing is parsed: whatever may be such a key is looked at.
 */

const SPACE: u8 = 32
const QUOTE: u8 = 34
const COMMA: u8 = 44
const MINUS: u8 = 45
const ZERO: u8 = 48
const COLON: u8 = 58
const BACKSLASH: u8 = 92
const LETTER_U: u8 = 117
const CLOSE_OBJECT: u8 = 125
/** `null`, as four bytes are loaded. */
const NULL: u32 = 0x6c6c756e
/** What a bigint does not hold of them the engine refuses. */
const MOST_DIGITS: u32 = 19

/** In the table of keys: for each hash the number of its first key, from 1 on. Then for each key: that of the next one of the same hash; how many bytes it has with
 *  its opening quote; which of 16 bytes the last of these are, as bits; these 16 bytes; all of them. */
const HASHES: i32 = 256
const ENTRY: i32 = 96
const SIZE_AT: i32 = 1
const BITS_AT: i32 = 2
const LAST_AT: i32 = 16
const ALL_AT: i32 = 32
const LAST: i32 = 16

/** Up to there a text goes on that is no key: its other escapes need no look. */
let passed: i32 = 0

/** Whether each value of these keys in `[from, to)` is an integer in plain digits without leading zeros, in quotes or not, or null. What may be one of the keys
 *  but cannot be told makes it false. `short`: some have less than three bytes. 16 bytes before `from` and 63 after `to` are read. */
export function plainIntegers(from: i32, to: i32, table: i32, short: boolean): boolean {
  passed = from
  for (let at = from; at < to; at += 64) {
    const a = v128.load(at)
    const b = v128.load(at, 16)
    const c = v128.load(at, 32)
    const d = v128.load(at, 48)
    const inEscape = v128.or(
      v128.or(are(a, BACKSLASH), are(b, BACKSLASH)),
      v128.or(are(c, BACKSLASH), are(d, BACKSLASH)),
    )
    if (v128.any_true(inEscape) && !keepsKeys(at, to)) return false
    let colons = bitsOf(are(a, COLON), are(b, COLON), are(c, COLON), are(d, COLON))
    if (to - at < 64) colons &= ((<u64>1) << (to - at)) - 1
    while (colons !== 0) {
      const colon = at + <i32>ctz(colons)
      colons &= colons - 1
      let quote = colon - 1
      if (load<u8>(quote) !== QUOTE) {
        if (load<u8>(quote) > SPACE) continue
        while (quote > from && isSpace(load<u8>(quote))) quote -= 1
        if (load<u8>(quote) !== QUOTE) continue
      }
      if (firstOf(load<u32>(quote - 4), table) === 0 && !short) continue
      if (isKey(from, quote, table, short) && !isPlain(colon + 1, to)) return false
    }
  }
  return true
}

function are(bytes: v128, byte: u8): v128 {
  return i8x16.eq(bytes, i8x16.splat(byte))
}

function bitsOf(a: v128, b: v128, c: v128, d: v128): u64 {
  return (
    <u64>i8x16.bitmask(a) |
    ((<u64>i8x16.bitmask(b)) << 16) |
    ((<u64>i8x16.bitmask(c)) << 32) |
    ((<u64>i8x16.bitmask(d)) << 48)
  )
}

/** Number of the first key of this hash; 0: there is none. */
function firstOf(tail: u32, table: i32): i32 {
  return <i32>load<u8>(table + <i32>((tail * 0x9e3779b1) >> 24))
}

/** Whether one of the keys ends at the quote. Found by its last bytes, four with its opening quote where it has so many. */
function isKey(from: i32, quote: i32, table: i32, short: boolean): boolean {
  for (let bytes = short ? 2 : 4; bytes <= 4; bytes += 1) {
    const tail = load<u32>(quote - 4) & (~(<u32>0) << ((4 - bytes) << 3))
    let index = firstOf(tail, table)
    while (index !== 0) {
      const entry = table + HASHES + (index - 1) * ENTRY
      const bits = <i32>load<u16>(entry, BITS_AT)
      const same = i8x16.bitmask(i8x16.eq(v128.load(quote - LAST), v128.load(entry, LAST_AT)))
      if ((same & bits) === bits && isWhole(from, quote, entry)) return true
      index = <i32>load<u8>(entry)
    }
  }
  return false
}

/** What stands before the last bytes of a key. */
function isWhole(from: i32, quote: i32, entry: i32): boolean {
  const size = <i32>load<u8>(entry, SIZE_AT)
  const start = quote - size
  if (start < from) return false
  for (let at = 0; at < size - LAST; at += 1) if (load<u8>(entry + at, ALL_AT) !== load<u8>(start + at)) return false
  return true
}

function isSpace(byte: u8): boolean {
  return byte === SPACE || byte === 9 || byte === 13 || byte === 10
}

/** Whether what follows the colon is one. Nearly always it begins at once, and a comma or the end of the object comes after it. */
function isPlain(from: i32, to: i32): boolean {
  let at = from
  let quoted = false
  if (!isDigit(load<u8>(at))) {
    while (at < to && isSpace(load<u8>(at))) at += 1
    if (load<u32>(at) === NULL) return isEnd(load<u8>(at, 4))
    quoted = load<u8>(at) === QUOTE
    if (quoted) at += 1
    if (load<u8>(at) === MINUS) at += 1
  }
  const bits = digitBits(v128.load(at)) | (digitBits(v128.load(at, 16)) << 16)
  const digits = <i32>ctz(~bits)
  if (<u32>(digits - 1) >= MOST_DIGITS || (digits > 1 && load<u8>(at) === ZERO)) return false
  const end = load<u8>(at + digits)
  return quoted ? end === QUOTE : isEnd(end)
}

function isDigit(byte: u8): boolean {
  return <u8>(byte - ZERO) < 10
}

function digitBits(bytes: v128): u32 {
  return i8x16.bitmask(i8x16.lt_u(i8x16.sub(bytes, i8x16.splat(ZERO)), i8x16.splat(10)))
}

function isEnd(byte: u8): boolean {
  return byte === COMMA || byte === CLOSE_OBJECT || isSpace(byte)
}

/** No key could be written by an escape of those that begin in the 64 bytes. */
function keepsKeys(from: i32, to: i32): boolean {
  const a = are(v128.load(from), BACKSLASH)
  const b = are(v128.load(from, 16), BACKSLASH)
  const c = are(v128.load(from, 32), BACKSLASH)
  const d = are(v128.load(from, 48), BACKSLASH)
  let slashes = bitsOf(a, b, c, d)
  while (slashes !== 0) {
    const next = from + <i32>ctz(slashes) + 1
    slashes &= slashes - 1
    if (next >= passed && next < to && load<u8>(next) === LETTER_U && mayBeInKey(next, to)) return false
  }
  return true
}

/** Whether the text that goes on at `from` ends as a key does. */
function mayBeInKey(from: i32, to: i32): boolean {
  let at = from
  while (at < to && load<u8>(at) !== QUOTE) at += load<u8>(at) === BACKSLASH ? 2 : 1
  if (at >= to) return true
  passed = at
  do at += 1
  while (at < to && isSpace(load<u8>(at)))
  return at >= to || load<u8>(at) === COLON
}
