/** Counts lines of NDJSON, 64 bytes at a time. AssemblyScript: `npm run build` makes a part of dist/records.wasm of it, and src/records/lines.ts calls it. */

const NEWLINE: u8 = 10
const CLOSE_OBJECT: u8 = 125
/** `{"`, as two bytes are loaded. */
const OPENING: u16 = 0x227b

/** After the last line that was counted. */
export let stopped: i32 = 0

/** How many lines of `[from, to)` begin as objects do, with `{"`, end with `}` and are shorter than `limit`, up to the first that is not so, or is not
 *  whole. 63 bytes after `to` are read and not looked at. */
export function objectLines(from: i32, to: i32, limit: i32): i32 {
  let count = 0
  stopped = from
  for (let at = from; at < to; at += 64) {
    const wanted = i8x16.splat(NEWLINE)
    let ends =
      <u64>i8x16.bitmask(i8x16.eq(v128.load(at), wanted)) |
      ((<u64>i8x16.bitmask(i8x16.eq(v128.load(at, 16), wanted))) << 16) |
      ((<u64>i8x16.bitmask(i8x16.eq(v128.load(at, 32), wanted))) << 32) |
      ((<u64>i8x16.bitmask(i8x16.eq(v128.load(at, 48), wanted))) << 48)
    if (to - at < 64) ends &= ((<u64>1) << (to - at)) - 1
    while (ends !== 0) {
      const end = at + <i32>ctz(ends)
      ends &= ends - 1
      if (end - stopped >= limit || load<u16>(stopped) !== OPENING || load<u8>(end - 1) !== CLOSE_OBJECT) return count
      stopped = end + 1
      count += 1
    }
  }
  return count
}
