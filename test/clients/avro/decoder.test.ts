import { describe, expect, it } from 'vitest'
import { NotAvro } from '../../../src/clients/avro/binary.ts'
import { AvroDecoder } from '../../../src/clients/avro/decoder.ts'
import { JsonBytes, TooLong } from '../../../src/clients/avro/json-bytes.ts'
import { parseSchema, schemaOf } from '../../../src/clients/avro/schema.ts'
import { avroBytes, avroType } from '../../harness/avro-values.ts'

type Json = Readonly<Record<string, unknown>>

const record = (type: unknown, more: Json = {}) => ({
  type: 'record',
  name: 'R',
  fields: [{ name: 'v', type }],
  ...more,
})
const decoded = (schema: unknown, bytes: Buffer, limit = 1 << 20): string => {
  const out = new JsonBytes(limit)
  new AvroDecoder(schemaOf(schema)).decode(bytes, 0, bytes.length, out)
  return out.bytes.toString('utf8', 0, out.length)
}
const value = (type: unknown, of: unknown) => decoded(record(type), avroBytes(record(type), { v: of })).slice(5, -1)
const logical = (type: unknown, logicalType: string, more: Json = {}) =>
  typeof type === 'string' ? { type, logicalType, ...more } : { ...(type as Json), logicalType, ...more }
const fixed = (size: number) => ({ type: 'fixed', name: 'F', size })
const unscaled = (text: string) => Buffer.from(text, 'hex')

describe('a value of Avro as JSON', () => {
  it.each([
    ['long', 9_223_372_036_854_775_807n, '9223372036854775807'],
    ['long', -9_223_372_036_854_775_808n, '-9223372036854775808'],
    ['long', 9_007_199_254_740_993n, '9007199254740993'],
    ['long', -281_474_976_710_657n, '-281474976710657'],
    ['int', -2_147_483_648, '-2147483648'],
    ['double', 0.1, '0.1'],
    ['double', -0, '-0.0'],
    ['double', 1e300, '1e+300'],
    ['double', Number.POSITIVE_INFINITY, '"Infinity"'],
    ['float', 0.5, '0.5'],
    ['boolean', true, 'true'],
    ['string', 'a "ü" 🎺 \u0000\u2028', JSON.stringify('a "ü" 🎺 \u0000\u2028')],
    ['bytes', Buffer.from([0x61, 0x22, 0x5c, 0x27, 0x00, 0xff]), '"a\\\\x22\\\\x5C\\\\x27\\\\x00\\\\xFF"'],
    [fixed(2), Buffer.from([0xde, 0x41]), '"\\\\xDEA"'],
    [{ type: 'enum', name: 'E', symbols: ['A', 'B'] }, 'B', '"B"'],
    [['null', 'long'], null, 'null'],
    [['null', 'long'], { long: 5n }, '5'],
    [['double', 'string', 'long'], { string: '5' }, '"5"'],
    [{ type: 'array', items: 'long' }, [1n, 2n], '[1,2]'],
    [{ type: 'array', items: ['null', 'int'] }, [], '[]'],
    [{ type: 'map', values: 'int' }, { 'a"': 1, ü: 2 }, '{"a\\"":1,"ü":2}'],
    [{ type: 'record', name: 'I', fields: [] }, {}, '{}'],
    [logical('bytes', 'decimal', { precision: 38, scale: 2 }), unscaled('f8'), '"-0.08"'],
    [
      logical('bytes', 'decimal', { precision: 38, scale: 9 }),
      unscaled('4b3b4ca85a86c47a098a223fffffffff'),
      '"99999999999999999999999999999.999999999"',
    ],
    [logical(fixed(4), 'decimal', { precision: 9 }), unscaled('ffffff38'), '"-200"'],
    [logical('int', 'date'), 20_542, '"2026-03-30"'],
    [logical('int', 'date'), -719_529, '"0002-12-31 (BC)"'],
    [logical('int', 'time-millis'), 36_000_123, '"10:00:00.123"'],
    [logical('long', 'time-micros'), 86_399_999_999n, '"23:59:59.999999"'],
    [logical('long', 'timestamp-millis'), 1_774_864_800_123n, '"2026-03-30T10:00:00.123Z"'],
    [logical('long', 'timestamp-micros'), -1n, '"1969-12-31T23:59:59.999999Z"'],
    [logical('long', 'timestamp-micros'), 253_402_300_799_999_999n, '"9999-12-31T23:59:59.999999Z"'],
    [logical('long', 'timestamp-nanos'), 1_774_864_800_123_456_789n, '"2026-03-30T10:00:00.123456789Z"'],
    [logical('long', 'local-timestamp-millis'), 0n, '"1970-01-01T00:00:00.000"'],
    [logical('int', 'time-millis'), -1, '-1'],
    [logical('long', 'timestamp-millis'), 9_223_372_036_854_775_807n, '9223372036854775807'],
    [logical('string', 'uuid'), '8f14e45f-ceea-4670-9c1e-2b7f6d3a0c55', '"8f14e45f-ceea-4670-9c1e-2b7f6d3a0c55"'],
    [
      logical(fixed(16), 'uuid'),
      unscaled('8f14e45fceea46709c1e2b7f6d3a0c55'),
      '"8f14e45f-ceea-4670-9c1e-2b7f6d3a0c55"',
    ],
    [logical(fixed(12), 'duration'), unscaled('0100000002000000ffffffff'), '"1 months 2 days 4294967295 milliseconds"'],
    // What a logical type cannot be of is the type itself.
    [logical('long', 'date'), 5n, '5'],
    [logical('bytes', 'decimal', { precision: 2, scale: 3 }), unscaled('41'), '"A"'],
  ])('%j: %s', (type, of, json) => {
    expect(value(type, of)).toBe(json)
  })

  it('of a schema that holds itself', () => {
    const list = { type: 'record', name: 'L', fields: [{ name: 'n', type: ['null', 'L'] }] }
    expect(decoded(list, avroBytes(list, { n: { L: { n: { L: { n: null } } } } }))).toBe('{"n":{"n":{"n":null}}}')
    expect(() => decoded(list, Buffer.alloc(1000, 2))).toThrow(/deeper/)
  })

  it('of names in namespaces, and in blocks whose size is told', () => {
    const schema = {
      ...{ type: 'record', name: 'a.b.R', fields: [] as unknown[] },
    }
    schema.fields.push({ name: 'x', type: { type: 'fixed', name: 'F', size: 1 } })
    schema.fields.push({ name: 'y', type: { type: 'record', name: 'c.Z', fields: [{ name: 'f', type: 'a.b.F' }] } })
    schema.fields.push({ name: 'z', type: { type: 'array', items: 'F' } })
    const sized = Buffer.from([0x41, 0x42, 0x03, 0x04, 0x43, 0x44, 0x02, 0x45, 0x00])
    expect(decoded(schema, sized)).toBe('{"x":"A","y":{"f":"B"},"z":["C","D","E"]}')
  })
})

describe('bytes that are no value', () => {
  const rich = record({
    type: 'array',
    items: [
      'null',
      'string',
      'double',
      { type: 'map', values: ['long', 'bytes'] },
      { type: 'enum', name: 'E', symbols: ['A'] },
    ],
  })

  it('are refused wherever they are cut off', () => {
    const of = {
      v: [
        { string: 'ü' },
        { double: 1 },
        { map: { a: { long: 1n << 60n }, b: { bytes: Buffer.from('x') } } },
        { E: 'A' },
      ],
    }
    const bytes = avroBytes(rich, of)
    expect(decoded(rich, bytes)).toContain('1152921504606846976')
    for (let end = 0; end < bytes.length; end += 1)
      expect(() => decoded(rich, bytes.subarray(0, end)), `${end}`).toThrow(NotAvro)
    expect(() => decoded(rich, Buffer.concat([bytes, Buffer.from([0])]))).toThrow(/goes on for 1 bytes/)
  })

  it('whatever they are: an error of one kind, or a value; never more than a record may have', () => {
    const seed = Number(process.env['ADFLOW_TEST_SEED'] ?? Date.now() % 2 ** 31)
    let state = seed
    const next = () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
      return state >>> 16
    }
    for (let round = 0; round < 20_000; round += 1) {
      const bytes = Buffer.from(Array.from({ length: next() % 24 }, () => next() & (next() % 3 === 0 ? 255 : 7)))
      try {
        JSON.parse(decoded(rich, bytes, 10_000))
      } catch (error) {
        expect(error, `seed ${seed}, ${bytes.toString('hex')}`).toSatisfy(
          (thrown) => thrown instanceof NotAvro || thrown instanceof TooLong,
        )
      }
    }
  })

  it.each([
    ['int', '8080808010', /more than 32 bits/],
    ['long', 'ffffffffffffffffff02', /more than 64 bits/],
    ['long', 'ffffffffffffffffffff01', /more than 64 bits/],
    ['boolean', '02', /boolean/],
    ['string', '04c328', /not UTF-8/],
    ['string', '01', /below zero/],
    ['bytes', 'ffffffffffffffff7f', /beyond all reason|too early/],
    [['null'], '02', /branch/],
    [{ type: 'enum', name: 'E', symbols: ['A'] }, '02', /symbol/],
  ])('%j of %s', (type, hex, message) => {
    expect(() => decoded(record(type), Buffer.from(hex, 'hex'))).toThrow(message)
  })

  it('a count of items that lies ends at the longest record', () => {
    expect(() =>
      decoded(record({ type: 'array', items: 'null' }), Buffer.from('80808080808040', 'hex'), 100_000),
    ).toThrow(TooLong)
  })
})

describe('a schema', () => {
  it.each([
    ['{', /no JSON/],
    ['"Money"', /no type `Money`/],
    ['{"type":"record","name":"R"}', /without `fields`/],
    ['{"type":"record","name":"1R","fields":[]}', /proper name/],
    ['{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}', /twice/],
    ['["null",["int"]]', /union inside a union/],
    ['[]', /union of nothing/],
    ['{"type":"fixed","name":"F"}', /`size`/],
    ['{"type":"enum","name":"E"}', /`symbols`/],
    ['{"type":"array"}', /in the place of a type/],
    [`${'{"type":"array","items":'.repeat(200)}"int"${'}'.repeat(200)}`, /deeper/],
  ])('%.80s is refused', (text, message) => {
    expect(() => parseSchema(text)).toThrow(message)
  })

  it('is read as another implementation writes it', () => {
    for (let round = 0; round < 50; round += 1) {
      const type = avroType(
        record(['null', { type: 'map', values: { type: 'array', items: ['null', 'long', 'string', 'double'] } }]),
      )
      const of = type.random()
      expect(() => JSON.parse(decoded(type.schema(), type.toBuffer(of)))).not.toThrow()
    }
  })
})
