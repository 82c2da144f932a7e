import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { csvFields, csvSplitter, uniqueNames } from '../../src/records/csv.ts'
import { cutAll, reassembled } from './cutting.ts'

const DIALECT = { delimiter: ',', quote: '"' }
const csv = csvSplitter(DIALECT)
const recordsOf = async (input: string, options = {}): Promise<string[]> =>
  (await cutAll(Buffer.from(input), csv, options)).flatMap((cut) => cut.raws)

describe('CSV records', () => {
  it.each([
    ['a quoted line end', 'a,"x\ny"\nb,z\n', ['a,"x\ny"', 'b,z']],
    ['doubled quotes', 'a,"x""\n""y"\nb,z\n', ['a,"x""\n""y"', 'b,z']],
    ['a quote inside a field', 'a,5" disk\nb,z\n', ['a,5" disk', 'b,z']],
    ['spaces before a quote', 'a,  "x\ny"\nb,z\n', ['a,  "x\ny"', 'b,z']],
    ['text after a closing quote', 'a,"x"y"\nb,z\n', ['a,"x"y"', 'b,z']],
    ['CRLF', 'a,1\r\nb,2\r\n', ['a,1', 'b,2']],
    ['no line end at the end', 'a,1\nb,"2"', ['a,1', 'b,"2"']],
    ['blank lines', '\na,1\n\n\r\nb,2\n\n', ['a,1', 'b,2']],
  ])('splits by lines, but not inside %s', async (_, input, expected) => {
    for (const pieceBytes of [1, 5, 1000]) expect(await recordsOf(input, { pieceBytes })).toEqual(expected)
  })

  it('keeps blank lines from the engine, which reads them as a row where there is one column', async () => {
    const [cut] = await cutAll(Buffer.from('a\n\nb\n'), csv)
    expect(cut?.bytes.toString()).toBe('a\nb\n')
    expect(cut?.places.map((place) => [place.byteFrom, place.line])).toEqual([
      [0, 1],
      [3, 3],
    ])
  })

  it('ends every record with LF alone, whatever the source does, and keeps its places', async () => {
    for (const pieceBytes of [1, 4, 1000]) {
      const [cut] = await cutAll(Buffer.from('a,"1\r\n2"\r\nb,3\n\r\nc,4\r\nd,5\r'), csv, { pieceBytes })
      expect(cut?.bytes.toString()).toBe('a,"1\r\n2"\nb,3\nc,4\nd,5')
      expect(cut?.places.map(({ byteFrom, byteTo, line }) => [byteFrom, byteTo, line])).toEqual([
        [0, 8, 1],
        [10, 13, 3],
        [16, 19, 5],
        [21, 24, 6],
      ])
    }
  })

  it('refuses the line of a quote that is never closed and reads on after it', async () => {
    const cuts = await cutAll(Buffer.from('a,1\nb,"2\nc,3\nd,4\n'), csv)
    expect(cuts.flatMap((cut) => cut.raws)).toEqual(['a,1', 'c,3', 'd,4'])
    expect(cuts.flatMap((cut) => cut.refused)).toMatchObject([
      { reason: 'RECORD_MALFORMED', byteFrom: 4, byteTo: 8, line: 2 },
    ])
  })

  it('refuses the first line of a record beyond the limit and reads on after it', async () => {
    const cuts = await cutAll(Buffer.from(`a,"1\n${'x,y\n'.repeat(20)}`), csv, { maxRecordBytes: 30, chunkBytes: 50 })
    expect(cuts.flatMap((cut) => cut.raws)).toHaveLength(20)
    expect(cuts[0]?.refused).toMatchObject([{ reason: 'RECORD_TOO_LARGE', byteFrom: 0, byteTo: 4, line: 1 }])
  })

  it('waits with a last line that may still be written', async () => {
    expect(await recordsOf('a,1\nb,22', { settled: false })).toEqual(['a,1'])
  })

  it('reads without quoting where the job says so', async () => {
    const cuts = await cutAll(Buffer.from('a,"1\nb,2\n'), csvSplitter({ delimiter: ',', quote: '' }))
    expect(cuts[0]?.records).toBe(2)
  })

  it('agrees with a reader that looks at one character after the other', async () => {
    const input = fc.string({
      unit: fc.constantFrom('a', ',', '"', '""', '\n', '\r\n', ' ', ',"', '",'),
      maxLength: 60,
    })
    const options = fc.record({
      chunkBytes: fc.integer({ min: 1, max: 80 }),
      pieceBytes: fc.integer({ min: 1, max: 40 }),
      maxRecordBytes: fc.constantFrom(12, 1000),
    })
    await fc.assert(
      fc.asyncProperty(input, options, async (text, chosen) => {
        const bytes = Buffer.from(text)
        const cuts = await cutAll(bytes, csv, chosen)
        expect(Buffer.concat(cuts.map((cut) => reassembled(cut, bytes))).toString()).toBe(text)
        expect(cuts.flatMap((cut) => cut.raws)).toEqual(slowRecords(text, chosen.maxRecordBytes))
        const lines = text.split('\n')
        for (const cut of cuts)
          for (const [index, place] of cut.places.entries()) {
            expect(text.slice(place.byteFrom, place.byteTo)).toBe(cut.raws[index])
            expect(lines.slice(0, place.line - 1).join('\n').length + (place.line > 1 ? 1 : 0)).toBe(place.byteFrom)
          }
        expect(await cutAll(bytes, csv, { ...chosen, pieceBytes: 7, exact: cuts.map((cut) => cut.to) })).toEqual(
          cuts.map((cut) => ({ ...cut, refused: expect.toSatisfy((again) => again.length === cut.refused.length) })),
        )
      }),
      { numRuns: 1500 },
    )
  })
})

/** Reference: one character at a time, one state. A record that cannot be taken costs its first line. */
function slowRecords(text: string, maxRecordBytes: number): string[] {
  const records: string[] = []
  for (let start = 0; start < text.length; ) {
    let at = start
    let state: 'start' | 'plain' | 'quoted' = 'start'
    for (; at < text.length; at += 1) {
      const c = text[at]
      if (state === 'quoted') {
        if (c === '"' && text[at + 1] === '"') at += 1
        else if (c === '"') state = 'plain'
      } else if (c === '\n') break
      else if (c === ',') state = 'start'
      else if (c === '"' && state === 'start') state = 'quoted'
      else if (c !== ' ') state = 'plain'
    }
    const whole = at < text.length
    const end = whole ? at + 1 : text.length
    if (end - start > maxRecordBytes || (state === 'quoted' && !whole)) {
      const newline = text.indexOf('\n', start)
      start = newline === -1 ? text.length : newline + 1
      continue
    }
    const record = text.slice(start, end).replace(/\r?\n$|\r$/, '')
    if (record !== '') records.push(record)
    start = end
  }
  return records
}

describe('CSV headers', () => {
  it.each([
    ['a,b,c', ['a', 'b', 'c']],
    ['"a,1","b""2", "c"\r\n', ['a,1', 'b"2', 'c']],
    ['a,,', ['a', '', '']],
    ['"x\ny",z\n', ['x\ny', 'z']],
  ])('reads the fields of %j', (line, fields) => {
    expect(csvFields(Buffer.from(line), DIALECT)).toEqual(fields)
  })

  it('makes names unique without regard to case, and gives empty ones a name', () => {
    expect(uniqueNames(['id', 'ID', '', 'id_1', ' name '])).toEqual(['id', 'ID_1', 'column2', 'id_1_1', 'name'])
  })
})
