import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compiledMemory } from '../../src/records/compiled.ts'
import { lines, objectLines } from '../../src/records/lines.ts'
import { cutAll, reassembled } from './cutting.ts'

const text = (...parts: string[]): Buffer => Buffer.from(parts.join(''))

describe('NDJSON records', () => {
  it('counts lines that are not blank, where blank is spaces, tabs and carriage returns only', async () => {
    const [cut] = await cutAll(text('{"a":1}\n', '\n', ' \t\r\n', '{"a":2}\r\n', '\v\n', ' {"a":3}\n'), lines)
    expect(cut?.records).toBe(4)
    expect(cut?.raws).toEqual(['{"a":1}', '{"a":2}', '\v', ' {"a":3}'])
    expect(cut?.places.map((place) => place.line)).toEqual([1, 4, 5, 6])
  })

  it('cuts at the last line end up to the target and gives the rest to the next chunk', async () => {
    const cuts = await cutAll(text('{"a":1}\n{"a":2}\n{"a":3}\n'), lines, { chunkBytes: 20 })
    expect(cuts.map(({ from, to }) => [from, to])).toEqual([
      [0, 16],
      [16, 24],
    ])
  })

  it('lets a chunk be longer than its target when its first line is', async () => {
    const cuts = await cutAll(text('{"a":"long long"}\n{"a":2}\n'), lines, { chunkBytes: 4 })
    expect(cuts.map(({ to }) => to)).toEqual([18, 26])
  })

  it.each([
    ['a half-written object', '{"a":1}\n{"b":', 1],
    ['a word', '{"a":1}\nnul', 1],
    ['nothing', '{"a":1}\n', 1],
    ['an object that only lacks its line end', '{"a":1}\n{"b":2}', 2],
  ])('while the file may still be written, takes %s at its end only when it is whole', async (_, input, records) => {
    const cuts = await cutAll(text(input), lines, { settled: false })
    expect(cuts.reduce((sum, cut) => sum + cut.records, 0)).toBe(records)
  })

  it('takes whatever stands at the end of a settled file', async () => {
    const [cut] = await cutAll(text('{"a":1}\n{"b":'), lines)
    expect(cut?.raws).toEqual(['{"a":1}', '{"b":'])
  })

  it.each([1, 7, 1 << 20])(
    'refuses a line beyond the limit by its exact place, in pieces of %d bytes',
    async (pieceBytes) => {
      const input = text('{"a":1}\n', `{"x":"${'x'.repeat(200)}"}\r\n`, '{"a":2}\n')
      const cuts = await cutAll(input, lines, { maxRecordBytes: 50, pieceBytes })
      expect(cuts.map((cut) => cut.bytes.toString()).join('')).toBe('{"a":1}\n{"a":2}\n')
      const refused = cuts.flatMap((cut) => cut.refused)
      expect(refused).toMatchObject([{ reason: 'RECORD_TOO_LARGE', byteFrom: 8, byteTo: 216, line: 2 }])
      expect(refused[0]?.raw.toString()).toBe(`{"x":"${'x'.repeat(200)}"}`)
      expect(cuts.at(-1)?.places.at(-1)).toEqual({ byteFrom: 218, byteTo: 225, line: 3 })
    },
  )

  it('loses no byte, counts as a slow reader counts, and cuts planned ranges again exactly', async () => {
    const line = fc.oneof(
      fc.constantFrom('', ' ', '\r', '\t \r'),
      fc.string({ maxLength: 12 }),
      fc.string({ minLength: 25, maxLength: 60 }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 30 }),
        fc.record({
          chunkBytes: fc.integer({ min: 1, max: 80 }),
          pieceBytes: fc.integer({ min: 1, max: 90 }),
          maxRecordBytes: fc.integer({ min: 20, max: 70 }),
        }),
        fc.boolean(),
        async (parts, options, ended) => {
          const input = Buffer.from(parts.join('\n') + (ended ? '\n' : ''))
          const cuts = await cutAll(input, lines, options)
          expect(Buffer.concat(cuts.map((cut) => reassembled(cut, input))).toString('hex')).toBe(input.toString('hex'))
          const all = input.toString('latin1').split('\n')
          const expected = all.filter(
            (part, index) =>
              !/^[ \t\r]*$/.test(part) && part.length + (index < all.length - 1 ? 1 : 0) <= options.maxRecordBytes,
          )
          expect(cuts.flatMap((cut) => cut.raws)).toEqual(expected.map((part) => part.replace(/\r$/, '')))
          for (const cut of cuts)
            for (const [index, place] of cut.places.entries())
              expect(input.toString('latin1', place.byteFrom, place.byteTo)).toBe(cut.raws[index])
          const again = await cutAll(input, lines, { ...options, pieceBytes: 13, exact: cuts.map((cut) => cut.to) })
          expect(again).toEqual(cuts)
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('NDJSON records of which lines that cannot be objects are refused', () => {
  const splitter = objectLines((raw) => `not an object: ${raw}`)

  it('refuses them by their exact place, and a digest has their bytes all the same', async () => {
    const input = text(
      '{"a":1}\n',
      '{"a":\n',
      '\n',
      ' {"a":2} \t\r\n',
      'null\n',
      '"}"\r\n',
      '[{}]\n',
      '{"]}\n',
      '{ ,}\n',
      '{a:1}\n',
    )
    const [cut] = await cutAll(input, splitter)
    expect(cut?.raws).toEqual(['{"a":1}', ' {"a":2} \t', '{"]}', '{ ,}'])
    expect(cut?.places.map(({ line }) => line)).toEqual([1, 4, 8, 9])
    expect(cut?.refused.map(({ raw, ...place }) => ({ ...place, raw: raw.toString() }))).toEqual(
      [
        ['{"a":', 8, 13, 2],
        ['null', 27, 31, 5],
        ['"}"', 32, 35, 6],
        ['[{}]', 37, 41, 7],
        ['{a:1}', 52, 57, 10],
      ].map(([raw, byteFrom, byteTo, line]) => ({
        reason: 'RECORD_MALFORMED',
        message: `not an object: ${raw}`,
        raw,
        byteFrom,
        byteTo,
        line,
      })),
    )
    const [plain] = await cutAll(input, lines)
    expect(cut?.digest).toBe(plain?.digest)
  })

  it('leaves the rest of a source that is something else altogether to the engine', async () => {
    const long = 'x'.repeat(60_000)
    const [cut] = await cutAll(text(...Array.from({ length: 100 }, () => `${long}\n`)), splitter, {
      chunkBytes: 1 << 23,
    })
    expect(cut?.refused.length).toBeGreaterThan(60)
    expect(cut?.refused.length).toBeLessThan(80)
    expect((cut?.refused.length ?? 0) + (cut?.records ?? 0)).toBe(100)
  })

  it('loses none, and refuses the same when planned ranges are cut again', async () => {
    const line = fc.oneof(fc.constantFrom('', ' ', '{}', ' {"a":1}\r', '{', '}'), fc.string({ maxLength: 8 }))
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 30 }),
        fc.record({ chunkBytes: fc.integer({ min: 1, max: 80 }), pieceBytes: fc.integer({ min: 1, max: 90 }) }),
        async (parts, options) => {
          const input = text(...parts.map((part) => `${part}\n`))
          const cuts = await cutAll(input, splitter, options)
          const seen = cuts.flatMap(({ raws, places, refused }) => [
            ...raws.map((raw, index) => [places[index]?.byteFrom ?? -1, raw] as const),
            ...refused.map(({ raw, byteFrom }) => [byteFrom, raw.toString('latin1')] as const),
          ])
          const all = await cutAll(input, lines)
          expect(seen.sort(([a], [b]) => a - b).map(([, raw]) => raw)).toEqual(all.flatMap(({ raws }) => raws))
          const again = await cutAll(input, splitter, { pieceBytes: 13, exact: cuts.map(({ to }) => to) })
          expect(again).toEqual(cuts)
        },
      ),
      { numRuns: 100 },
    )
  })

  it('finds the same in memory of the compiled code as elsewhere, whatever the lines are', () => {
    const [window = Buffer.alloc(0)] = compiledMemory(0, 1).buffers
    const line = fc.oneof(
      {
        weight: 8,
        arbitrary: fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 }).map((it) => JSON.stringify(it)),
      },
      fc.constantFrom('', ' ', '\t\r', '{"', '{}', '{', '}', '"}', ' {"a":1}', '{"a":1} ', '{"a":1}\r', '[1]', '{"a'),
    )
    fc.assert(
      fc.property(
        fc.array(line, { maxLength: 40 }),
        fc.constantFrom('', '\n', '{"a":'),
        fc.nat(100),
        fc.constantFrom(8, 30, 1 << 20),
        fc.constantFrom(
          lines,
          objectLines(() => 'no object'),
        ),
        (texts, end, from, limit, splitter) => {
          const bytes = Buffer.from(`${'x'.repeat(from)}${texts.join('\n')}${end}`)
          window.fill('}\n{"', 0, bytes.length + 100)
          bytes.copy(window)
          const [here, there] = [bytes, window].map((place) => {
            const tally = { end: 0, records: 1, lines: 2, returns: [] }
            return { stop: splitter.scan(place, from, bytes.length, limit, tally), tally }
          })
          expect(there).toEqual(here)
        },
      ),
      { numRuns: 2000 },
    )
  })
})
