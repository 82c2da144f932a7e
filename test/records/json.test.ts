import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type CuttingOptions, cutAllJson } from './cutting.ts'

const read = async (input: string, options: CuttingOptions = {}) => {
  const cuts = await cutAllJson(Buffer.from(input), options)
  return {
    cuts,
    lines: cuts.flatMap((cut) => cut.bytes.toString().split('\n').slice(0, -1)),
    refused: cuts.flatMap((cut) => cut.refused),
    places: cuts.flatMap((cut) => cut.places),
  }
}

describe('JSON records', () => {
  it.each([
    ['an array', '[{"a":1},{"a":2}]', ['{"a":1}', '{"a":2}']],
    [
      'a pretty-printed array',
      '[\n  {\n    "a": 1\n  },\n  {"a": [1,\n2]}\n]\n',
      ['{     "a": 1   }', '{"a": [1, 2]}'],
    ],
    ['values one after the other', '{"a":1}{"a":"}"}\n\n{"a":"\\"]"}', ['{"a":1}', '{"a":"}"}', '{"a":"\\"]"}']],
    ['several arrays', '[{"a":1}]\n[{"a":2}]', ['{"a":1}', '{"a":2}']],
    ['values that are no objects', '[1, "x,]", null, [2,3], -1.5e3]', ['1', '"x,]"', 'null', '[2,3]', '-1.5e3']],
    ['an empty array', ' [ ] ', []],
    ['a stray bracket', '{"a":1} } {"a":2}', ['{"a":1}', '}', '{"a":2}']],
  ])('are taken one by one out of %s', async (_, input, expected) => {
    for (const pieceBytes of [1, 3, 1000]) {
      const { lines, refused } = await read(input, { pieceBytes })
      expect(lines).toEqual(expected)
      expect(refused).toEqual([])
    }
  })

  it('keep their place and line in the source', async () => {
    const { places } = await read('[\n  {"a":\n1},\n\n {"b":2}\n]')
    expect(places).toEqual([
      { byteFrom: 4, byteTo: 12, line: 2 },
      { byteFrom: 16, byteTo: 23, line: 5 },
    ])
  })

  it('go on inside an array that was closed further down later', async () => {
    const { cuts } = await read('[1,2]')
    const [cut] = await cutAllJson(Buffer.from('[1,2,3]'), { exact: [cuts.at(-1)?.to ?? 0, 6] }).then((all) =>
      all.slice(1),
    )
    expect(cut?.bytes.toString()).toBe('3\n')
  })

  it.each([
    ['in a line', '{"a":1}\n{"a":{"b":2}\n{"a":3}\n', ['{"a":1}', '{"a":3}'], '{"a":{"b":2}'],
    ['by a quote', '{"a":1}\n{"a":"2}\n{"a":3}\n', ['{"a":1}', '{"a":3}'], '{"a":"2}'],
    ['by the wrong bracket', '{"a":1}\n{"a":[2}\n{"a":3}\n', ['{"a":1}', '{"a":3}'], '{"a":[2}'],
    ['in a pretty array', '[\n  {\n    "a": {\n  },\n  {"a":3}\n]', ['{"a":3}'], '{\n    "a": {\n  },'],
    ['in an array of one line', '[{"a":1},{"a":2 {"a":3}]', ['{"a":1}'], '{"a":2 {"a":3}]'],
    ['at the end', '{"a":1}\n{"a":', ['{"a":1}'], '{"a":'],
  ])('broken off %s cost only themselves where the next one can be found', async (_, input, expected, raw) => {
    for (const pieceBytes of [1, 4, 1000])
      for (const chunkBytes of [1, 10, 1000]) {
        const { lines, refused } = await read(input, { pieceBytes, chunkBytes })
        expect(lines).toEqual(expected)
        expect(refused.map((record) => [record.reason, record.raw.toString()])).toEqual([['RECORD_MALFORMED', raw]])
        expect(input.slice(refused[0]?.byteFrom, refused[0]?.byteTo)).toBe(raw)
      }
  })

  it('wait at the end of a file that may still be written, unless they are whole', async () => {
    expect((await read('{"a":1}{"b":2}', { settled: false })).lines).toEqual(['{"a":1}', '{"b":2}'])
    expect((await read('{"a":1}{"b":', { settled: false })).lines).toEqual(['{"a":1}'])
    expect((await read('[1, 23', { settled: false })).lines).toEqual(['1'])
  })

  it('beyond the limit are passed over to their real end', async () => {
    const large = `{"x":[${'{"y":"]"},'.repeat(40)}0]}`
    for (const pieceBytes of [1, 7, 1000]) {
      const { lines, refused } = await read(`[{"a":1},${large},{"a":2}]`, { pieceBytes, maxRecordBytes: 50 })
      expect(lines).toEqual(['{"a":1}', '{"a":2}'])
      expect(refused).toMatchObject([{ reason: 'RECORD_TOO_LARGE', byteFrom: 9, byteTo: 9 + large.length }])
      expect(refused[0]?.raw.toString()).toBe(large)
    }
  })

  it('are the same whatever the layout, the pieces and the chunks, and are cut again exactly', async () => {
    const layout = fc.constantFrom('array', 'pretty', 'lines', 'together')
    const options = fc.record({
      chunkBytes: fc.integer({ min: 1, max: 200 }),
      pieceBytes: fc.integer({ min: 1, max: 100 }),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.object({ maxDepth: 2 }), { maxLength: 8 }),
        layout,
        options,
        async (values, how, chosen) => {
          const input = Buffer.from(written(values, how))
          const cuts = await cutAllJson(input, chosen)
          const lines = cuts.flatMap((cut) => cut.bytes.toString().split('\n').slice(0, -1))
          expect(lines.map((line) => JSON.parse(line))).toEqual(JSON.parse(JSON.stringify(values)))
          for (const [index, { byteFrom, byteTo }] of cuts.flatMap((cut) => cut.places).entries())
            expect(JSON.stringify(JSON.parse(input.toString('utf8', byteFrom, byteTo)))).toBe(
              JSON.stringify(values[index]),
            )
          expect(cuts.flatMap((cut) => cut.refused)).toEqual([])
          expect(await cutAllJson(input, { ...chosen, pieceBytes: 11, exact: cuts.map((cut) => cut.to) })).toEqual(cuts)
        },
      ),
      { numRuns: 400 },
    )
  })

  it('or what is refused of them cover every byte of damaged input that is not a separator', async () => {
    const piece = fc.constantFrom(
      '{"a":1}',
      '{',
      '}',
      '[',
      ']',
      '"',
      ',',
      '\n',
      ' ',
      '{"b":"x',
      ':',
      '12',
      '\\',
      '\n{"c":2}\n',
    )
    const options = fc.record({
      chunkBytes: fc.integer({ min: 1, max: 60 }),
      pieceBytes: fc.integer({ min: 1, max: 50 }),
      maxRecordBytes: fc.constantFrom(9, 1000),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 20 }), options, async (pieces, chosen) => {
        const input = pieces.join('')
        const { cuts, refused, places } = await read(input, chosen)
        const covered = [...places, ...refused].sort((a, b) => a.byteFrom - b.byteFrom)
        let left = ''
        let at = 0
        for (const { byteFrom, byteTo } of covered) {
          expect(byteFrom).toBeGreaterThanOrEqual(at)
          left += input.slice(at, byteFrom)
          at = byteTo
        }
        expect(left + input.slice(at)).toMatch(/^[\s,[\]]*$/)
        const whole = { maxRecordBytes: chosen.maxRecordBytes }
        const once = await read(input, whole)
        expect({ places, refused }).toEqual({ places: once.places, refused: once.refused })
        const again = await cutAllJson(Buffer.from(input), { ...whole, exact: cuts.map((cut) => cut.to) })
        expect(again).toEqual(cuts)
      }),
      { numRuns: 1500 },
    )
  })
})

function written(values: readonly object[], layout: string): string {
  if (layout === 'array') return JSON.stringify(values)
  if (layout === 'pretty') return JSON.stringify(values, null, 2)
  return values.map((value) => JSON.stringify(value)).join(layout === 'lines' ? '\n' : '')
}
