import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compiledMemory } from '../../src/records/compiled.ts'
import { PlainIntegers } from '../../src/records/plain-integers.ts'

const [buffer = Buffer.alloc(0)] = compiledMemory(0, 1).buffers

/** Where it lies in the buffer changes what stands together in a block of 64 bytes. */
function isPlain(text: string, keys: readonly string[], offset = 0): boolean {
  const integers = new PlainIntegers(keys)
  expect(integers.keys).toEqual(keys)
  buffer.fill(':1.5"', 0, offset + Buffer.byteLength(text) + 100)
  const end = offset + buffer.write(text, offset)
  integers.look(buffer, offset, end)
  return integers.plain
}

const PLAIN = [
  '0',
  '12',
  '-7',
  '1234567890123456',
  '-1234567890123456789',
  '9999999999999999999',
  'null',
  '"5"',
  '"-70"',
]
const OTHER = [
  ...[
    '1.5',
    '12.0',
    '1e3',
    '1E3',
    '-1.5e-7',
    'true',
    'false',
    'NaN',
    'Infinity',
    '-',
    '- 1',
    '+1',
    '12345678901234567890',
    '007',
    '-00',
  ],
  ...[
    '""',
    '"x"',
    '"1.5"',
    '" 1"',
    '"1 "',
    '"1e3"',
    '"0x1F"',
    '"1_000"',
    '"007"',
    '"-00"',
    '"-"',
    String.raw`"\u0031"`,
    '"null"',
    '"12345678901234567890"',
  ],
  ...['{"x":1}', '[1]', '[]', '{}', '1/**/', '/**/1', 'nul', '1x'],
]

describe('an integer of a record', () => {
  it.each(PLAIN)('may be %s', (value) => {
    for (const space of ['', ' ', '\t\r '])
      for (const end of ['}', `${space},"b":1.5}`])
        expect(isPlain(`{"a"${space}:${space}${value}${end}\n`, ['a'])).toBe(true)
  })

  it.each(OTHER)('is not plain as %s', (value) => {
    for (const space of ['', ' ', '\t\r '])
      for (const end of ['}', `${space},"b":1}`])
        expect(isPlain(`{"a"${space}:${space}${value}${end}\n`, ['a'])).toBe(false)
  })

  it('is looked for wherever the key may stand, and nowhere else', () => {
    const keys = ['n', 'id', 'cost', 'campaign_id']
    const values = '"id":1,"n":2,"cost":-3,"campaign_id":4'
    expect(isPlain(`{${values}}\n`, keys)).toBe(true)
    for (const other of [
      '"xid":1.5',
      '"idx":1.5',
      '"ID":1.5',
      '"a":"id: 1.5"',
      '"a":"id\\\\: 1.5"',
      '"cöst":true',
      '"d":{"e":[1.5]}',
      '"a":"\\"id\\":x"',
      '"in":1.5',
      '"os":1.5',
    ])
      expect(isPlain(`{${values},${other}}\n`, keys), other).toBe(true)
    for (const other of ['"id":1.5', '"n":1.5', '"cost":true', '"d":{"id":1.5}', '"d":[{"campaign_id":1.5}]'])
      expect(isPlain(`{${values},${other}}\n`, keys), other).toBe(false)
  })

  it.each([String.raw`"\u0069d"`, String.raw`"i\u0064"`, String.raw`"\u0069\u0064" `, String.raw`"x\u0069d"`])(
    'is not plain where the key could be written as %s',
    (key) => {
      expect(isPlain(`{"id":1,${key}:2}\n`, ['id'])).toBe(false)
      expect(isPlain(`{"id":1,"a":[${key}]}\n`, ['id'])).toBe(true)
      expect(isPlain(`{"id":1,"a":${key}}\n`, ['id'])).toBe(true)
    },
  )

  it('may have escapes of texts around it', () => {
    expect(isPlain(String.raw`{"a":"C:\\users\u00e9\n","id":1,"b":"\"id\" \\u"}`, ['id'])).toBe(true)
    expect(isPlain(String.raw`{"a":"x\\":"id":1.5}`, ['id'])).toBe(false)
  })

  it('is looked for behind texts with many escapes', () => {
    const text = String.raw`"t":"${'\\u4e2d'.repeat(200)}\"${'\\u0041'.repeat(200)}"`
    for (let offset = 0; offset < 64; offset += 1) {
      expect(isPlain(`{${text},"id":1,${text}}\n`, ['id'], offset)).toBe(true)
      expect(isPlain(`{${text},"\\u0069d":1.5}\n{"id":1}\n`, ['id'], offset)).toBe(false)
      expect(isPlain(`{${text},"id":1.5,${text}}\n`, ['id'], offset)).toBe(false)
    }
  })

  it('may have a key in any script, and of any length that is looked for', () => {
    const keys = [
      'é',
      '日本',
      'x'.repeat(63),
      'conversion_value',
      'conversion_value_micros',
      'a'.repeat(14),
      'a'.repeat(15),
      'a'.repeat(16),
      'id',
    ]
    expect(isPlain(`{${keys.map((key) => `"${key}":1`).join(',')}}\n`, keys)).toBe(true)
    for (const key of keys) expect(isPlain(`{"id":1,"${key}":1.5}\n`, keys), key).toBe(false)
  })
})

it('looks for no key that JSON can write otherwise, nor for what does not fit', () => {
  expect(new PlainIntegers(['a/b', 'a"b', 'a\\b', 'a\nb', '', 'x'.repeat(64), 'a b']).keys).toEqual(['a b'])
  expect(new PlainIntegers(Array.from({ length: 100 }, (_, index) => `k${index}`)).keys).toHaveLength(64)
})

it('says that bytes are not plain that it cannot look at', () => {
  const integers = new PlainIntegers(['a'])
  integers.look(Buffer.from('{"a":1}\n'), 0, 8)
  expect(integers.plain).toBe(false)
  const none = new PlainIntegers([])
  none.look(Buffer.from('{"a":1.5}\n'), 0, 10)
  expect(none.plain).toBe(true)
})

it('keeps the keys of several apart that look in turn', () => {
  const [a, b] = [new PlainIntegers(['a']), new PlainIntegers(['b'])]
  const end = buffer.write('{"a":1,"b":1.5}\n')
  a.look(buffer, 0, end)
  b.look(buffer, 0, end)
  a.look(buffer, 0, end)
  expect([a.plain, b.plain]).toEqual([true, false])
})

/** A record, and whether all integers of it are plain: known from how it was made. */
const record = fc
  .record({
    fields: fc.array(
      fc.record({
        key: fc.constantFrom('id', 'n', 'cost', 'xid', 'a', 'campaign_id'),
        value: fc.oneof(
          { weight: 6, arbitrary: fc.constantFrom(...PLAIN) },
          fc.constantFrom(...OTHER.slice(0, 9)),
          fc.json(),
        ),
        space: fc.constantFrom('', '', ' ', '\t '),
      }),
      { minLength: 1, maxLength: 12 },
    ),
    pad: fc.string({ unit: 'binary', maxLength: 70 }),
  })
  .map(({ fields, pad }) => ({
    text: `{"pad":${JSON.stringify(pad)},${fields.map(({ key, value, space }) => `"${key}"${space}:${space}${value}`).join(',')}}\n`,
    fields,
  }))

it('is right about random records wherever these lie', () => {
  const keys = ['id', 'n', 'cost', 'campaign_id']
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 5 }), fc.nat(200), (records, offset) => {
      const wanted = records.flatMap(({ fields }) => fields).filter(({ key }) => keys.includes(key))
      const plain = wanted.every(
        ({ value }) => PLAIN.includes(value) || /^(?:"?-?(?:0|[1-9]\d{0,18})"?|null)$/.test(value),
      )
      const found = isPlain(records.map(({ text }) => text).join(''), keys, offset)
      // A key in a value, or in a text, may be taken for one of the record: then too much is asked, never too little.
      if (!plain) expect(found).toBe(false)
      const nested = records.some(({ fields }) =>
        fields.some(({ value }) => /["\\]/.test(value) && !PLAIN.includes(value)),
      )
      if (plain && !nested && !records.some(({ text }) => text.includes('\\'))) expect(found).toBe(true)
    }),
    { numRuns: 3000 },
  )
})
