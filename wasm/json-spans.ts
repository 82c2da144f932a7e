/**
 * Finds where records of a JSON array stand, 64 bytes at a time. AssemblyScript: `npm run build` makes a part of dist/records.wasm of it,
 * and src/records/found-records.ts calls it. What is unusual here is not an error: src/records/json-scanner.ts has the last word on it.
 */

const NEWLINE: u8 = 10
const QUOTE: u8 = 34
const COMMA: u8 = 44
const COLON: u8 = 58
const OPEN_ARRAY: u8 = 91
const BACKSLASH: u8 = 92
/** `{` and `[` have it, `}` and `]` have not. */
const OPENS: u8 = 2
/** `{` and `}` have it, `[` and `]` have not. */
const OF_OBJECT: u8 = 32
/** Levels have a bit each. */
const MOST_DEPTH: i32 = 64
/** In the table: where a record begins, the index after it, line ends between its tokens. */
const ENTRY: i32 = 12

/** Bytes of the longest record that the last find() gave. */
export let longest: i32 = 0
/** Line ends between the tokens of all of them. */
export let lineEnds: i32 = 0
/** Where the last gather() stopped. */
export let filled: i32 = 0

/**
 * Records of `[from, to)`, which follow a record, each after a comma; how many, at most `most`. They stand in the table. Stops before what is not
 * whole, longer than `limit`, or anything but a sound object or array. 63 bytes after `to` are read and not looked at.
 */
export function find(from: i32, to: i32, table: i32, most: i32, limit: i32): i32 {
  longest = 0
  lineEnds = 0
  let count = 0
  let depth = 0
  /** One bit for each level that is open: 1 is an object. */
  let kinds: u64 = 0
  let start = from
  let startLines = 0
  let end = from
  /** All bits: a string goes on from the block before. */
  let within: u64 = 0
  /** 1: the first byte of the block comes after a backslash. */
  let escaped: u64 = 0
  let lines = 0
  for (let at = from; at < to; at += 64) {
    const a = v128.load(at)
    const b = v128.load(at, 16)
    const c = v128.load(at, 32)
    const d = v128.load(at, 48)
    const valid: u64 = to - at < 64 ? ((<u64>1) << (to - at)) - 1 : ~(<u64>0)
    const slashes = equal(a, b, c, d, BACKSLASH) & valid
    const newlines = equal(a, b, c, d, NEWLINE) & valid
    let quotes = equal(a, b, c, d, QUOTE) & valid
    if ((slashes | escaped) !== 0) {
      let after = escaped
      escaped = 0
      let left = slashes & ~after
      while (left !== 0) {
        const slash = left & (0 - left)
        const next = slash << 1
        if (next === 0) escaped = 1
        after |= next
        left &= ~(slash | next)
      }
      quotes &= ~after
    }
    /** From each quote that opens a string to the byte before the one that closes it. */
    let strings = quotes ^ (quotes << 1)
    strings ^= strings << 2
    strings ^= strings << 4
    strings ^= strings << 8
    strings ^= strings << 16
    strings ^= strings << 32
    strings ^= within
    within = <u64>(<i64>strings >> 63)
    if (((newlines & strings) | (slashes & ~strings)) !== 0) return count
    let marks = brackets(a, b, c, d) & valid & ~strings
    while (marks !== 0) {
      const bit = <i32>ctz(marks)
      const passed = lines + <i32>popcnt(newlines & (((<u64>1) << bit) - 1))
      marks &= marks - 1
      const place = at + bit
      const byte = load<u8>(place)
      const kind: u64 = (byte & OF_OBJECT) !== 0 ? 1 : 0
      if ((byte & OPENS) !== 0) {
        if (depth === 0) {
          if (!isComma(end, place)) return count
          start = place
          startLines = passed
        } else if (depth === MOST_DEPTH || !mayOpen(place, (kinds & 1) === 1)) return count
        kinds = (kinds << 1) | kind
        depth += 1
      } else {
        if (depth === 0 || (kinds & 1) !== kind) return count
        kinds >>= 1
        depth -= 1
        if (depth > 0) continue
        end = place + 1
        if (end - start > limit) return count
        const entry = table + count * ENTRY
        store<i32>(entry, start)
        store<i32>(entry, end, 4)
        store<i32>(entry, passed - startLines, 8)
        longest = max(longest, end - start)
        lineEnds += passed - startLines
        count += 1
        if (count === most) return count
      }
    }
    lines += <i32>popcnt(newlines)
  }
  return count
}

/** Copies records `[first, count)` of the table, each with a line end after it, to `[to, end)`, as many as there is room for. The index after the last one. */
export function gather(table: i32, first: i32, count: i32, to: i32, end: i32): i32 {
  let index = first
  filled = to
  for (; index < count; index += 1) {
    const entry = table + index * ENTRY
    const start = load<i32>(entry)
    const length = load<i32>(entry, 4) - start
    if (filled + length >= end) break
    memory.copy(filled, start, length)
    store<u8>(filled + length, NEWLINE)
    filled += length + 1
  }
  return index
}

function joined(a: v128, b: v128, c: v128, d: v128): u64 {
  return (
    <u64>i8x16.bitmask(a) |
    ((<u64>i8x16.bitmask(b)) << 16) |
    ((<u64>i8x16.bitmask(c)) << 32) |
    ((<u64>i8x16.bitmask(d)) << 48)
  )
}

function equal(a: v128, b: v128, c: v128, d: v128, byte: u8): u64 {
  const wanted = i8x16.splat(byte)
  return joined(i8x16.eq(a, wanted), i8x16.eq(b, wanted), i8x16.eq(c, wanted), i8x16.eq(d, wanted))
}

function isBracket(bytes: v128): v128 {
  const objects = v128.or(bytes, i8x16.splat(OF_OBJECT))
  return v128.or(i8x16.eq(objects, i8x16.splat(123)), i8x16.eq(objects, i8x16.splat(125)))
}

function brackets(a: v128, b: v128, c: v128, d: v128): u64 {
  return joined(isBracket(a), isBracket(b), isBracket(c), isBracket(d))
}

function isSpace(byte: u8): boolean {
  return byte === 32 || byte === NEWLINE || byte === 13 || byte === 9
}

/** One comma and white space. */
function isComma(from: i32, to: i32): boolean {
  let commas = 0
  for (let at = from; at < to; at += 1) {
    const byte = load<u8>(at)
    if (byte === COMMA) commas += 1
    else if (!isSpace(byte)) return false
  }
  return commas === 1
}

/** The byte before, in a record that has begun, allows for a value here. */
function mayOpen(place: i32, inObject: boolean): boolean {
  let back = place - 1
  while (isSpace(load<u8>(back))) back -= 1
  const before = load<u8>(back)
  return inObject ? before === COLON : before === COMMA || before === OPEN_ARRAY
}
