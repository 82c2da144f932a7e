import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BodyError, type BodyKind, splitBody } from '../../src/gateway/records.ts'

const LIMITS = { maxEvents: 100, maxEventBytes: 200 }

function split(kind: BodyKind, text: string | Buffer) {
  const { payload, ...rest } = splitBody(kind, Buffer.from(text), LIMITS)
  return { lines: payload.toString().split('\n').slice(0, -1), ...rest }
}

describe('a body', () => {
  it('of one event, of an array, of lines: each comes out as its own bytes', () => {
    const big = '{"id":9007199254740993,"d":0.10000000000000000555,"e":1E400}'
    expect(split('json', ` ${big}\n`)).toEqual({ lines: [big], records: 1, rejected: [] })
    expect(split('json', `[${big}, ${big}]`)).toEqual({ lines: [big, big], records: 2, rejected: [] })
    expect(split('ndjson', `${big}\r\n\n  ${big}  \n${big}`)).toEqual({
      lines: [big, big, big],
      records: 3,
      rejected: [],
    })
  })

  it('names what is no whole JSON object, and keeps the others', () => {
    const long = JSON.stringify({ text: 'x'.repeat(300) })
    const latin1 = Buffer.from('{"name":"\xff"}', 'latin1')
    const body = Buffer.concat([
      Buffer.from(`{"a":1}\n\n7\n{"a":\n{"a":1}{"b":2}\n${long}\n`),
      latin1,
      Buffer.from('\n{}'),
    ])
    expect(split('ndjson', body)).toEqual({
      lines: ['{"a":1}', '{}'],
      records: 2,
      rejected: [
        { index: 1, line: 3, reason: 'not_an_object' },
        { index: 2, line: 4, reason: 'not_json' },
        { index: 3, line: 5, reason: 'not_json' },
        { index: 4, line: 6, reason: 'too_large' },
        { index: 5, line: 7, reason: 'not_utf8' },
      ],
    })
    expect(split('json', '[{"a":1}, null, {"b":tru}, [1], {}]')).toEqual({
      lines: ['{"a":1}', '{}'],
      records: 2,
      rejected: [
        { index: 1, reason: 'not_an_object' },
        { index: 2, reason: 'not_json' },
        { index: 3, reason: 'not_an_object' },
      ],
    })
  })

  it('keeps line ends inside strings, and makes spaces of those between tokens', () => {
    expect(split('json', '{\n "a":\r\n "x\\ny"\n}').lines).toEqual(['{  "a":   "x\\ny" }'])
  })

  it.each([
    ['json', '', 'empty'],
    ['json', ' [ ] ', 'empty'],
    ['ndjson', ' \n\r\n', 'empty'],
    ['json', '[{"a":1}', 'malformed'],
    ['json', '[{"a":1},]', 'malformed'],
    ['json', '[,{"a":1}]', 'malformed'],
    ['json', '[{"a":1} {"a":2}]', 'malformed'],
    ['json', '[{"a":1}] x', 'malformed'],
    ['json', '[] x', 'malformed'],
    ['json', '[{"a":[}]', 'malformed'],
    ['ndjson', '{}\n'.repeat(101), 'too_many_events'],
  ] as const)('of which nothing can be taken is an error: %s %j', (kind, text, code) => {
    expect(() => split(kind, text)).toThrow(BodyError)
    expect(() => split(kind, text)).toThrow(expect.objectContaining({ code }))
  })

  it('of any objects comes out the same from an array and from lines', () => {
    const object = fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 5 }), fc.jsonValue({ maxDepth: 2 }), {
      maxKeys: 4,
    })
    fc.assert(
      fc.property(fc.array(object, { minLength: 1, maxLength: 20 }), fc.boolean(), (objects, pretty) => {
        const texts = objects.map((each) => JSON.stringify(each))
        const limits = { maxEvents: 20, maxEventBytes: 1 << 20 }
        const lines = splitBody('ndjson', Buffer.from(texts.join('\n')), limits)
        const array = splitBody('json', Buffer.from(JSON.stringify(objects, undefined, pretty ? 1 : 0)), limits)
        expect(lines.payload.toString()).toBe(`${texts.join('\n')}\n`)
        expect(lines.records).toBe(objects.length)
        const back = array.payload.toString().split('\n').slice(0, -1)
        expect(back.map((line) => JSON.parse(line) as unknown)).toEqual(JSON.parse(JSON.stringify(objects)))
        expect([...lines.rejected, ...array.rejected]).toEqual([])
      }),
    )
  })
})
