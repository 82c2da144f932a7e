/** What wasm/ was made into, each with a memory of its own: it works on the bytes that lie there. */
import { readFileSync } from 'node:fs'
import { PIECE_BYTES } from './window.ts'

/** What of it is used here: the types of Node.js leave it to those of browsers. */
declare const WebAssembly: {
  readonly Module: new (code: Uint8Array) => object
  readonly Memory: new (pages: {
    readonly initial: number
    readonly maximum: number
  }) => { readonly buffer: ArrayBuffer }
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown }
}

interface Value {
  readonly value: number
}

/** wasm/ says what it does, in json-spans.ts, lines.ts, integers.ts and sum.ts. */
export interface Compiled {
  find(from: number, to: number, table: number, most: number, limit: number): number
  gather(table: number, first: number, count: number, to: number, end: number): number
  readonly longest: Value
  readonly lineEnds: Value
  readonly filled: Value
  objectLines(from: number, to: number, limit: number): number
  plainIntegers(from: number, to: number, table: number, short: number): number
  readonly stopped: Value
  shorten(from: number, words: number, first: number, scratch: number, bytes: number): void
  readonly shortBytes: Value
}

export interface KnownMemory {
  readonly compiled: Compiled
  /** For whoever is working now. */
  readonly scratch: Buffer
  /** Keys that are looked for, and whose they are. */
  readonly keys: { readonly table: Buffer; of?: object }
}

/** The compiled code reads so far before and beyond the bytes that it is asked about. */
const BEFORE_BYTES = 16
const BEYOND_BYTES = 64
const PAGE_BYTES = 64 << 10
const SCRATCH_BYTES = 24_000
/** See plain-integers.ts. */
export const KEY_TABLE_BYTES = 256 + 64 * 96
/** Seen from src/records and from dist/chunks. */
const CODE = new URL('../../dist/records.wasm', import.meta.url)

let code: object | undefined
const known = new WeakMap<object, KnownMemory>()

export interface CompiledMemory {
  readonly compiled: Compiled
  readonly memory: ArrayBuffer
  /** Of PIECE_BYTES each. */
  readonly buffers: readonly Buffer[]
}

/** Memory with so many bytes at its beginning and so many buffers after them. It never grows: they would be gone. */
export function compiledMemory(bytes: number, buffers: number): CompiledMemory {
  code ??= new WebAssembly.Module(readFileSync(CODE))
  const strideBytes = PIECE_BYTES + BEYOND_BYTES
  const firstAt = bytes + BEFORE_BYTES
  const scratchAt = alignedTo(16, firstAt + buffers * strideBytes)
  const tableAt = scratchAt + SCRATCH_BYTES
  const initial = Math.ceil((tableAt + KEY_TABLE_BYTES) / PAGE_BYTES)
  const memory = new WebAssembly.Memory({ initial, maximum: initial })
  const compiled = new WebAssembly.Instance(code, { env: { memory } }).exports as Compiled
  const { buffer } = memory
  known.set(buffer, {
    compiled,
    scratch: Buffer.from(buffer, scratchAt, SCRATCH_BYTES),
    keys: { table: Buffer.from(buffer, tableAt, KEY_TABLE_BYTES) },
  })
  const places = Array.from({ length: buffers }, (_, index) => firstAt + index * strideBytes)
  return { compiled, memory: buffer, buffers: places.map((at) => Buffer.from(buffer, at, PIECE_BYTES)) }
}

/** What works on bytes of this memory; undefined where it is an ordinary one. */
export function compiledOf(memory: ArrayBufferLike): KnownMemory | undefined {
  return known.get(memory)
}

function alignedTo(step: number, bytes: number): number {
  return Math.ceil(bytes / step) * step
}
