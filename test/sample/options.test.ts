import { describe, expect, it } from 'vitest'
import { countsOf } from '../../src/sample/defects.ts'
import { parseCount, parseDefects, planSample, type SampleOptions } from '../../src/sample/options.ts'

const dir = 'data'

describe('--defects', () => {
  it.each([
    { text: '0.1%', format: 'ndjson', counts: countsOf(() => 10) },
    { text: '0.002', format: 'csv', counts: countsOf(() => 20) },
    { text: '0', format: 'csv', counts: countsOf(() => 0) },
    { text: 'none', format: 'ndjson', counts: countsOf(() => 0) },
    { text: '0.1%', format: 'parquet', counts: { ...countsOf(() => 10), malformed: 0 } },
    { text: 'late=3, duplicate=1%', format: 'ndjson', counts: { ...countsOf(() => 0), late: 3, duplicate: 100 } },
  ] as const)('$text in 10,000 records of $format', ({ text, format, counts }) => {
    expect(parseDefects(text, 10_000, format)).toEqual(counts)
  })

  it.each([
    { text: '5', says: 'no rate' },
    { text: 'often', says: 'expected a rate' },
    { text: 'early=1', says: 'unknown class “early”' },
    { text: 'late=', says: 'expected a count or a rate for late' },
    { text: '10%', says: 'at most half' },
  ])('$text is refused: $says', ({ text, says }) => {
    expect(() => parseDefects(text, 10_000, 'ndjson')).toThrow(says)
  })
})

describe('a count', () => {
  it.each([
    ['100000', 100_000],
    ['1_000', 1_000],
    ['500k', 500_000],
    ['2M', 2_000_000],
  ])('%s', (text, count) => expect(parseCount(text)).toBe(count))

  it.each(['', 'k', '1.5M', '-3', '2m'])('“%s” is refused', (text) => {
    expect(() => parseCount(text)).toThrow('expected a count')
  })
})

describe('options that contradict each other or themselves', () => {
  const cases: { options: Partial<SampleOptions>; says: string }[] = [
    { options: { rows: 0 }, says: '--rows must be an integer from 1' },
    { options: { rows: 3, files: 4, defects: 'none' }, says: '3 records over 4 files' },
    { options: { days: 0.5 }, says: '--days must be' },
    { options: { seed: -1 }, says: '--seed must be' },
    { options: { start: '2026-02-30' }, says: '--start must be a day' },
    { options: { start: 'tomorrow' }, says: '--start must be a day' },
    { options: { format: 'parquet', gzip: true }, says: '--gzip does not go with --format parquet' },
  ]
  it.each(cases)('$options', ({ options, says }) => {
    expect(() => planSample({ dir, ...options }, undefined)).toThrow(says)
  })
})

it('spreads the records over the files without gap or overlap', () => {
  const { parts } = planSample({ dir, rows: 1_001, files: 3, gzip: true }, undefined)
  expect(parts).toEqual([
    { name: 'events-0001.ndjson.gz', from: 0, to: 333, after: undefined },
    { name: 'events-0002.ndjson.gz', from: 333, to: 667, after: undefined },
    { name: 'events-0003.ndjson.gz', from: 667, to: 1_001, after: undefined },
  ])
})
