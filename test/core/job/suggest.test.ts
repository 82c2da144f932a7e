import { expect, it } from 'vitest'
import { didYouMean, nearest, orList } from '../../../src/core/job/suggest.ts'

it.each([
  ['tpye', ['type', 'table'], 'type'],
  ['cvs', ['csv', 'ndjson'], 'csv'],
  ['Ad-Server', ['ad_server'], 'ad_server'],
  ['transfrom', ['transform', 'name'], 'transform'],
  ['xyz', ['csv', 'type'], undefined],
  ['schedule', ['name', 'load'], undefined],
  ['', ['a'], undefined],
  ['a', [], undefined],
])('%s among %j was meant as %s', (word, candidates, expected) => {
  expect(nearest(word, candidates)).toBe(expected)
})

it('writes suggestions and lists as people read them', () => {
  expect(didYouMean('tpye', ['type'])).toBe('did you mean `type`?')
  expect(didYouMean('zzz', ['type'])).toBeUndefined()
  expect([orList([]), orList(['a']), orList(['a', 'b', 'c'])]).toEqual(['', '`a`', '`a`, `b` or `c`'])
})
