/**
 * Whether the values of some keys of NDJSON are integers in plain digits, wherever such a key stands. Only of those the engine's own reader says the same
 * as a strict cast of their text: it makes a 2 of 1.5 and a 1 of true. Found by WebAssembly (wasm/integers.ts) in the bytes that are counted anyway.
 */
import { compiledOf, KEY_TABLE_BYTES, type KnownMemory } from './compiled.ts'

/** As wasm/integers.ts finds them. */
const HASHES = 256
const ENTRY_BYTES = 96
const SIZE_AT = 1
const BITS_AT = 2
const LAST_AT = 16
const ALL_AT = 32
const LAST_BYTES = 16
const MULTIPLIER = 0x9e3779b1
/** Of the end of a key, its opening quote with it, so many bytes are hashed. */
const TAIL_BYTES = 4

const MOST_KEYS = Math.floor((KEY_TABLE_BYTES - HASHES) / ENTRY_BYTES)
/** With its opening quote. */
const MOST_BYTES = ENTRY_BYTES - ALL_AT

export class PlainIntegers {
  readonly keys: readonly string[]
  readonly #table: Buffer
  readonly #hasShort: boolean
  #plain = true

  /** Keys that can be told from others by their bytes alone are looked at; `keys` are those. */
  constructor(wanted: readonly string[]) {
    this.keys = wanted.filter(isToldByBytes).slice(0, MOST_KEYS)
    this.#table = tableOf(this.keys)
    this.#hasShort = this.keys.some((key) => Buffer.byteLength(key) + 1 < TAIL_BYTES)
  }

  /** Of all that was looked at. Bytes that cannot be looked at are not. */
  get plain(): boolean {
    return this.#plain
  }

  /** Whole records. */
  look(bytes: Buffer, from: number, to: number): void {
    if (!this.#plain || this.keys.length === 0 || to <= from) return
    const known = compiledOf(bytes.buffer)
    this.#plain = known !== undefined && this.#isPlain(known, bytes.byteOffset + from, bytes.byteOffset + to)
  }

  #isPlain({ compiled, keys }: KnownMemory, from: number, to: number): boolean {
    if (keys.of !== this) {
      this.#table.copy(keys.table)
      keys.of = this
    }
    return compiled.plainIntegers(from, to, keys.table.byteOffset, this.#hasShort ? 1 : 0) !== 0
  }
}

/** What JSON writes with an escape could stand there otherwise. Of an escape by number compiled code takes care. */
function isToldByBytes(key: string): boolean {
  const escaped = [...key].some((char) => char < ' ' || char === '"' || char === '/' || char === '\\')
  return key !== '' && !escaped && Buffer.byteLength(key) < MOST_BYTES
}

function tableOf(keys: readonly string[]): Buffer {
  const table = Buffer.alloc(HASHES + keys.length * ENTRY_BYTES)
  for (const [index, key] of keys.entries()) {
    const all = Buffer.from(`"${key}`)
    const last = Buffer.concat([Buffer.alloc(LAST_BYTES), all]).subarray(-LAST_BYTES)
    const hash = Math.imul(last.readUInt32LE(LAST_BYTES - TAIL_BYTES), MULTIPLIER) >>> 24
    const entry = HASHES + index * ENTRY_BYTES
    table[entry] = table[hash] as number
    table[entry + SIZE_AT] = all.length
    table.writeUInt16LE((0xffff << Math.max(0, LAST_BYTES - all.length)) & 0xffff, entry + BITS_AT)
    last.copy(table, entry + LAST_AT)
    all.copy(table, entry + ALL_AT)
    table[hash] = index + 1
  }
  return table
}
