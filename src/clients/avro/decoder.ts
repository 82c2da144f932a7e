/**
 * A schema as functions that write its values as JSON: exact, and no object per value. Long numbers keep their digits; decimals are
 * texts of digits; days and times are texts; bytes are texts as the engine writes a BLOB; of a union stands the value alone.
 */
import { isUtf8 } from 'node:buffer'
import { AvroCursor, decimalText, NotAvro, signed } from './binary.ts'
import { dateText, timestampText, timeText } from './calendar.ts'
import type { JsonBytes } from './json-bytes.ts'
import type { AvroSchema, Logical, Primitive } from './schema.ts'

type Write = (from: AvroCursor, out: JsonBytes, depth: number) => void

const [COMMA, COLON, OPEN, CLOSE, LIST, LIST_END] = [0x2c, 0x3a, 0x7b, 0x7d, 0x5b, 0x5d]
/** Of values inside values: only schemas that hold themselves go so deep. */
const DEEPEST = 200

export class AvroDecoder {
  readonly #write: Write

  constructor(schema: AvroSchema) {
    this.#write = new Compiler().of(schema)
  }

  /** All of `bytes[at, end)` as one value. @throws NotAvro; TooLong */
  decode(bytes: Buffer, at: number, end: number, out: JsonBytes): void {
    const from = new AvroCursor(bytes, at, end)
    this.next(from, out)
    if (from.at < end) throw new NotAvro(`goes on for ${end - from.at} bytes behind its end`)
  }

  /** The value at the cursor. @throws NotAvro; TooLong */
  next(from: AvroCursor, out: JsonBytes): void {
    this.#write(from, out, 0)
  }
}

class Compiler {
  /** A record may hold itself. */
  readonly #records = new Map<AvroSchema, { write: Write }>()

  of(schema: AvroSchema): Write {
    switch (schema.kind) {
      case 'record': {
        const known = this.#records.get(schema)
        if (known !== undefined) return (from, out, depth) => known.write(from, out, depth)
        const own = { write: (() => undefined) as Write }
        this.#records.set(schema, own)
        own.write = this.#record(schema.fields)
        return own.write
      }
      case 'union':
        return union(schema.branches.map((branch) => this.of(branch)))
      case 'array':
        return blocks(this.of(schema.items), LIST, LIST_END)
      case 'map': {
        const value = this.of(schema.items)
        const entry: Write = (from, out, depth) => {
          text(from, out)
          out.byte(COLON)
          value(from, out, depth)
        }
        return blocks(entry, OPEN, CLOSE)
      }
      case 'enum':
        return enumeration(schema.symbols)
      case 'fixed':
        return fixed(schema.size, schema.logical)
      default:
        return logical(schema.kind, schema.logical) ?? PLAIN[schema.kind]
    }
  }

  #record(fields: readonly { readonly name: string; readonly type: AvroSchema }[]): Write {
    const parts = fields.map(({ name, type }, index) => ({
      head: Buffer.from(`${index === 0 ? '{' : ','}"${name}":`),
      write: this.of(type),
    }))
    return (from, out, depth) => {
      const inside = deeper(depth)
      if (parts.length === 0) out.byte(OPEN)
      for (const { head, write } of parts) {
        out.copy(head)
        write(from, out, inside)
      }
      out.byte(CLOSE)
    }
  }
}

const text = (from: AvroCursor, out: JsonBytes): void => {
  const [start, end] = stretch(from)
  if (!isUtf8(from.bytes.subarray(start, end))) throw new NotAvro('has a string that is not UTF-8')
  out.text(from.bytes, start, end)
}

const PLAIN: Readonly<Record<Primitive, Write>> = {
  null: (_from, out) => out.ascii('null'),
  boolean: (from, out) => {
    const byte = from.byte()
    if (byte > 1) throw new NotAvro('has a boolean that is neither 0 nor 1')
    out.ascii(byte === 1 ? 'true' : 'false')
  },
  int: (from, out) => out.ascii(String(from.int())),
  long: (from, out) => out.ascii(String(from.long())),
  float: (from, out) => out.ascii(real(from.bytes.readFloatLE(from.take(4)))),
  double: (from, out) => out.ascii(real(from.bytes.readDoubleLE(from.take(8)))),
  bytes: (from, out) => out.blob(from.bytes, ...stretch(from)),
  string: text,
}

/** JSON has no infinity and nothing that is no number: the engine casts their names. */
function real(value: number): string {
  if (!Number.isFinite(value)) return `"${value}"`
  return Object.is(value, -0) ? '-0.0' : String(value)
}

function logical(kind: Primitive, meant: Logical | undefined): Write | undefined {
  switch (meant?.is) {
    case 'decimal':
      return (from, out) => decimal(from, stretch(from), meant.scale, out)
    case 'date':
      return (from, out) => {
        const days = from.int()
        told(out, dateText(days), days)
      }
    case 'time':
    case 'timestamp':
    case 'local-timestamp': {
      const say = meant.is === 'time' ? timeText : timestampText
      const zone = meant.is === 'timestamp' ? 'Z' : ''
      return (from, out) => {
        const value = kind === 'int' ? from.int() : from.long()
        told(out, say(value, meant.digits), value, zone)
      }
    }
    default:
      return undefined
  }
}

/** What cannot be said stays a number, which no date or time takes: the record is quarantined, or the contract says a number. */
function told(out: JsonBytes, said: string | undefined, value: number | bigint, suffix = ''): void {
  out.ascii(said === undefined ? String(value) : `"${said}${suffix}"`)
}

function fixed(size: number, meant: Logical | undefined): Write {
  const range = (from: AvroCursor): [number, number] => {
    const at = from.take(size)
    return [at, at + size]
  }
  switch (meant?.is) {
    case 'decimal':
      return (from, out) => decimal(from, range(from), meant.scale, out)
    case 'uuid':
      return (from, out) => {
        const hex = from.bytes.toString('hex', ...range(from))
        out.ascii(`"${hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')}"`)
      }
    case 'duration':
      return (from, out) => {
        const [at] = range(from)
        const [months, days, millis] = [0, 4, 8].map((place) => from.bytes.readUInt32LE(at + place))
        out.ascii(`"${months} months ${days} days ${millis} milliseconds"`)
      }
    default:
      return (from, out) => out.blob(from.bytes, ...range(from))
  }
}

/** A text: numbers with a point lose their digits where JSON is read as double. */
function decimal(from: AvroCursor, [start, end]: readonly [number, number], scale: number, out: JsonBytes): void {
  out.ascii(`"${decimalText(signed(from.bytes, start, end), scale)}"`)
}

function enumeration(symbols: readonly string[]): Write {
  const told = symbols.map((symbol) => Buffer.from(JSON.stringify(symbol)))
  return (from, out) => {
    const symbol = told[from.int()]
    if (symbol === undefined) throw new NotAvro('has a symbol that its enum does not have')
    out.copy(symbol)
  }
}

function union(branches: readonly Write[]): Write {
  return (from, out, depth) => {
    const branch = branches[from.size()]
    if (branch === undefined) throw new NotAvro('has a branch that its union does not have')
    branch(from, out, depth)
  }
}

/** Items of an array or a map, in blocks. Each leaves a byte at least, so that a count that lies ends at the longest record. */
function blocks(item: Write, open: number, close: number): Write {
  return (from, out, depth) => {
    const inside = deeper(depth)
    let first = true
    out.byte(open)
    for (let left = from.size(); left !== 0; left = from.size()) {
      // Below zero: the size of the block in bytes stands before the items.
      if (left < 0) {
        left = -left
        from.size()
      }
      for (; left > 0; left -= 1) {
        if (!first) out.byte(COMMA)
        first = false
        item(from, out, inside)
      }
    }
    out.byte(close)
  }
}

function stretch(from: AvroCursor): [start: number, end: number] {
  const length = from.size()
  const start = from.take(length)
  return [start, start + length]
}

function deeper(depth: number): number {
  if (depth === DEEPEST) throw new NotAvro(`is nested deeper than ${DEEPEST} values`)
  return depth + 1
}
