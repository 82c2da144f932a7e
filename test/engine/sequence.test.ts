import { expect, test } from 'vitest'
import { bindSequence } from '../../src/engine/sequence.ts'

test.each([
  ['WHERE seq = $seq', 'WHERE seq = 7'],
  ['$seq+$seq', '7+7'],
  ["'$seq' || 'it''s $seq'", "'$seq' || 'it''s $seq'"],
  ['"$seq" = $seq', '"$seq" = 7'],
  ['a -- $seq\n= $seq', 'a -- $seq\n= 7'],
  ['/* $seq */ $seq', '/* $seq */ 7'],
  ['$sequence', '$sequence'],
])('%s', (sql, bound) => {
  expect(bindSequence(sql, 7)).toBe(bound)
})

test('takes every 64-bit number', () => {
  expect(bindSequence('$seq', -(2n ** 63n))).toBe('-9223372036854775808')
})
