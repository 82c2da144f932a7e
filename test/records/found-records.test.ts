import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FoundRecords } from '../../src/records/found-records.ts'
import { isJsonSpace, JsonScanner } from '../../src/records/json-scanner.ts'

const NO_LIMIT = 1 << 20
const COMMA = 44

type Span = readonly [from: number, to: number, lines: number]

/** What the scanner finds, which looks at each byte. */
function scanned(bytes: Buffer, from: number, to: number): Span[] {
  const scanner = new JsonScanner()
  const spans: Span[] = []
  for (let at = from; ; ) {
    while (at < to && isJsonSpace(bytes[at])) at += 1
    if (at >= to || bytes[at] !== COMMA) return spans
    do at += 1
    while (at < to && isJsonSpace(bytes[at]))
    scanner.reset()
    const end = scanner.scan(bytes, at, to)
    if (end < 0 || !'{['.includes(String.fromCharCode(bytes[at] ?? 0))) return spans
    spans.push([at, end, scanner.lines])
    at = end
  }
}

const found = new FoundRecords()
const window = found.buffers.take()

/** Searched where it lies, at some distance from the beginning, before bytes that do not belong to it. */
function search(text: string | Buffer, at = 0, limit = NO_LIMIT): { readonly spans: Span[]; readonly wanted: Span[] } {
  const bytes = Buffer.from(text)
  window.fill('"}],{"', at, Math.min(window.length, at + bytes.length + 200))
  bytes.copy(window, at)
  const end = at + bytes.length
  const spans: Span[] = []
  const stop = found.find(window, at, end, limit)
  found.each(window, (_, from, to, lines) => spans.push([from, to, lines]))
  expect(stop).toBe(spans.at(-1)?.[1] ?? at)
  expect(found.longest).toBe(Math.max(0, ...spans.map(([from, to]) => to - from)))
  expect(found.lineEnds).toBe(spans.reduce((sum, [, , lines]) => sum + lines, 0))
  return { spans, wanted: scanned(window, at, end) }
}

describe('records found many at once', () => {
  const record = fc.oneof(
    fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue(), { minKeys: 1 }),
    fc.array(fc.jsonValue()),
  )

  it('are all objects and arrays of an array, however it is written', () => {
    fc.assert(
      fc.property(
        fc.array(record, { minLength: 1, maxLength: 20 }),
        fc.constantFrom(undefined, 2, '\t'),
        fc.constantFrom(',', ', ', ' ,\n', '\r\n,'),
        fc.nat(200),
        (records, indent, between, at) => {
          const texts = records.map((one) => JSON.stringify(one, undefined, indent))
          const { spans, wanted } = search(`${between}${texts.join(between)}]}`, at)
          expect(spans).toEqual(wanted)
          expect(spans.map(([from, to]) => window.toString('utf8', from, to))).toEqual(texts)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('are what the scanner finds in any text, as far as they go', () => {
    const piece = fc.constantFrom(
      ...['{', '}', '[', ']', ':', ',', '"', '\\', '\\"', '\n', ' ', 'a', '1', ',{"a":1}', '{"a":[', '"a":{', '\\\\'],
      ...['{"a":"\\\\"}', ',{"b":"}\\"]"}', `,{"c":"${'x'.repeat(61)}"}`, `,["${'\\'.repeat(63)}`, ',{}', '"', '"'],
    )
    let some = 0
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), fc.nat(70), (pieces, at) => {
        const { spans, wanted } = search(`,{"id":1}${pieces.join('')}`, at)
        expect(wanted.slice(0, spans.length)).toEqual(spans)
        if (spans.length > 1) some += 1
      }),
      { numRuns: 5000 },
    )
    expect(some).toBeGreaterThan(200)
  })

  it.each([
    ['a record that is not whole', ',{"b":2'],
    ['a record that breaks off', ',{"b":"2\n"},{"c":3}'],
    ['a bracket of the wrong kind', ',{"b":[2}},{"c":3}'],
    ['a bracket where no value may be', ',{"b" {"c":3}},{"d":4}'],
    ['a value without a comma', '{"b":2}'],
    ['two commas', ',,{"b":2}'],
    ['a number', ',2,{"c":3}'],
    ['a text', ',"{",{"c":3}'],
    ['an escape outside of texts', ',\\"{"b":2}'],
    ['the end of the array', '],{"b":2}'],
    ['more levels than it counts', `,${'['.repeat(65)}${']'.repeat(65)},{"c":3}`],
    ['more bytes than are allowed', `,{"b":"${'x'.repeat(100)}"},{"c":3}`],
  ])('end before %s', (_, rest) => {
    // Blocks are given up as a whole: the record before stands in one of its own.
    const { spans } = search(`,{"a":1}${' '.repeat(128)}${rest}`, 3, 100)
    expect(spans).toEqual([[4, 11, 0]])
  })

  it('are at most as many as the table holds; the rest is found by the next search', () => {
    const texts = Array.from({ length: 10_000 }, (_, index) => `{"n":${index}}`)
    const bytes = Buffer.from(`,${texts.join(',')}`)
    bytes.copy(window)
    const seen: string[] = []
    for (let at = 0, stop = -1; stop !== at; ) {
      at = Math.max(0, stop)
      stop = found.find(window, at, bytes.length, NO_LIMIT)
      found.each(window, (_, from, to) => seen.push(window.toString('utf8', from, to)))
    }
    expect(seen).toEqual(texts)
  })

  it('are gathered into lines, as many as there is room for, in any buffer', () => {
    const bytes = Buffer.from(',{"a":1},[2,3],{"c":"\u{1F600}"}')
    bytes.copy(window)
    found.find(window, 0, bytes.length, NO_LIMIT)
    for (const target of [found.buffers.take(), Buffer.alloc(1 << 20)]) {
      const small = target.subarray(0, 20)
      expect(found.gather(0, window, small, 2)).toEqual({ records: 2, end: 16 })
      expect(small.toString('utf8', 2, 16)).toBe('{"a":1}\n[2,3]\n')
      expect(found.gather(2, window, small, 16)).toEqual({ records: 0, end: 16 })
      expect(found.gather(2, window, target, 0)).toEqual({ records: 1, end: 13 })
      expect(target.toString('utf8', 0, 13)).toBe('{"c":"\u{1F600}"}\n')
      found.buffers.give(target)
    }
  })

  it('are none in bytes of other memory', () => {
    const bytes = Buffer.from(',{"a":1}')
    expect(found.find(bytes, 0, bytes.length, NO_LIMIT)).toBe(0)
    expect(found.count).toBe(0)
  })
})
