import { describe, expect, it } from 'vitest'
import { NONE_COUNTED, RecordCounter, splitterOf } from '../../../src/clients/staging/record-counter.ts'
import type { SegmentFormat } from '../../../src/clients/staging/segment.ts'
import { countLines } from '../../../src/records/splitter.ts'
import { cutAll } from '../../records/cutting.ts'

const LONGEST = 40
const FORMATS: readonly SegmentFormat[] = [
  { type: 'ndjson' },
  { type: 'csv', delimiter: ',', quote: '"', header: ['a', 'b'] },
]
const TOKENS: Readonly<Record<SegmentFormat['type'], readonly string[]>> = {
  ndjson: ['{"a":1}\n', '{"text":"long enough to matter"}\n', '\n', ' \n', '\r\n', 'x', '"', '\n'],
  csv: ['1,2\n', '"a\nb",2\n', '"say ""x""",\n', ',\n', '1,"', '"', '\n', '\r\n', 'xxxxxxxxxxxxxxx'],
}

describe('records that are counted while they are written', () => {
  it('are those that cutting the same bytes finds, in whatever pieces they come; what may not stay as it is is left to cutting', async () => {
    const seed = Date.now() % 2 ** 31
    const random = randomFrom(seed)
    let known = 0
    for (let round = 0; round < 150; round += 1)
      for (const format of FORMATS) {
        const tokens = TOKENS[format.type]
        // Mostly sound records: damage must not hide what is sound.
        const from = () => (random(8) === 0 ? random(tokens.length) : random(2))
        const text = `${Array.from({ length: 1 + random(12) }, () => tokens[from()]).join('')}\n`
        const bytes = Buffer.from(text)
        const counted = countedIn(bytes, format, () => 1 + random(9))
        const [cut, ...more] = await cutAll(bytes, splitterOf(format), { maxRecordBytes: LONGEST })
        const asItIs = cut?.bytes.equals(bytes) === true && more.length === 0
        const why = `seed ${seed}: ${format.type} ${JSON.stringify(text)}`
        expect(counted.lineEnds, why).toBe(countLines(bytes, 0, bytes.length))
        if (asItIs) expect(counted.records, why).toBe(cut.records)
        else expect(counted.records, why).toBeUndefined()
        known += asItIs ? 1 : 0
      }
    expect(known).toBeGreaterThan(50)
  })
})

function countedIn(bytes: Buffer, format: SegmentFormat, size: () => number) {
  const counter = new RecordCounter(format, LONGEST)
  let counted = NONE_COUNTED
  for (let at = 0; at < bytes.length; ) {
    const to = Math.min(bytes.length, at + size())
    // The buffer is its owner's again after each call.
    const piece = Buffer.from(bytes.subarray(at, to))
    counted = counter.add(counted, piece)
    piece.fill(0)
    at = to
  }
  return counter.settled(counted)
}

function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return (state >>> 8) % below
  }
}
