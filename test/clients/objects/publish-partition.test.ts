import fc from 'fast-check'
import { expect, test } from 'vitest'
import { partitionFolder } from '../../../src/clients/objects/publish-partition.ts'
import { duckdbRows } from '../../harness/engine.ts'

test.for([
  ['CN', 'k=CN'],
  [null, 'k=__HIVE_DEFAULT_PARTITION__'],
  ['__HIVE_DEFAULT_PARTITION__', 'k=%5F_HIVE_DEFAULT_PARTITION__'],
  ['', 'k='],
  ['2026-01-01 10:00', 'k=2026-01-01 10%3A00'],
  ['a/b\\c', 'k=a%2Fb%5Cc'],
  ['../../etc', 'k=..%2F..%2Fetc'],
  ['..', 'k=%2E%2E'],
  ['end. ', 'k=end.%20'],
  ['50%=x', 'k=50%25%3Dx'],
  ['line\nbreak\u0000\u0085', 'k=line%0Abreak%00%C2%85'],
  ['北京', 'k=北京'],
] as const)('%j becomes %s', ([value, folder]) => {
  expect(partitionFolder(['k'], [value])).toBe(folder)
})

test('several keys are folders in each other', () => {
  expect(partitionFolder(['dt', 'country'], ['2026-01-01', null])).toBe(
    'dt=2026-01-01/country=__HIVE_DEFAULT_PARTITION__',
  )
})

test('a value that no folder name holds is refused by its key and size', () => {
  expect(() => partitionFolder(['k'], ['界'.repeat(85)])).toThrow(/partition k has a value of 257 bytes/)
})

test('different values never share a folder, and the engine reads each back', async () => {
  const seed = Date.now() % 1_000_000_000
  const values = fc.sample(fc.string({ unit: 'grapheme', maxLength: 12 }), { numRuns: 300, seed })
  const distinct = [...new Set(values)]
  const folders = distinct.map((value) => partitionFolder(['k'], [value]))
  expect(new Set(folders).size, `seed ${seed}`).toBe(distinct.length)
  const list = folders.map((folder) => `url_decode('${folder.slice(2).replaceAll("'", "''")}')`).join(', ')
  const [row] = await duckdbRows(`SELECT [${list}] AS decoded`)
  expect(row?.['decoded'], `seed ${seed}`).toEqual(distinct)
})
