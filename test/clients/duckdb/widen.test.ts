import { expect, test } from 'vitest'
import { widened } from '../../../src/clients/duckdb/widen.ts'
import { duckdbRows } from '../../harness/engine.ts'

test.for([
  ['VARCHAR', 'VARCHAR', 'VARCHAR'],
  ['INTEGER', 'BIGINT', 'BIGINT'],
  ['BIGINT', 'INTEGER', 'BIGINT'],
  ['SMALLINT', 'USMALLINT', 'INTEGER'],
  ['BIGINT', 'UBIGINT', 'HUGEINT'],
  ['UHUGEINT', 'BIGINT', undefined],
  ['DECIMAL(10,2)', 'DECIMAL(12,4)', 'DECIMAL(12,4)'],
  ['DECIMAL(12,2)', 'DECIMAL(10,6)', 'DECIMAL(16,6)'],
  ['DECIMAL(38,2)', 'DECIMAL(10,3)', undefined],
  ['DECIMAL(10,2)', 'BIGINT', 'DECIMAL(21,2)'],
  ['HUGEINT', 'DECIMAL(38,0)', 'HUGEINT'],
  ['BIGINT', 'DECIMAL(18,0)', 'BIGINT'],
  ['BIGINT', 'DECIMAL(19,0)', undefined],
  ['BIGINT', 'DECIMAL(10,2)', undefined],
  ['UBIGINT', 'DECIMAL(5,0)', undefined],
  ['BIGINT', 'DOUBLE', undefined],
  ['DATE', 'TIMESTAMP', undefined],
  ['TIMESTAMP', 'TIMESTAMP WITH TIME ZONE', undefined],
  ['VARCHAR', 'INTEGER', undefined],
  ['STRUCT(a INTEGER)', 'STRUCT(a BIGINT)', undefined],
] as const)('a column of %s that gets %s becomes %s', ([have, come, expected]) => {
  expect(widened(have, come)).toBe(expected)
})

test('the greatest and the least value of each integer type survive the widening', async () => {
  const types = ['TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'UTINYINT', 'USMALLINT', 'UINTEGER', 'UBIGINT']
  const bounds = (type: string) => {
    const bits = BigInt({ TINY: 8, SMALL: 16, INTEGER: 32, BIG: 64 }[type.replace(/^U|INT$/g, '')] ?? 32)
    return type.startsWith('U') ? [0n, 2n ** bits - 1n] : [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n]
  }
  const casts = types.flatMap((have) =>
    types.flatMap((come) =>
      [...bounds(have), ...bounds(come)].map(
        (value) => `SELECT '${value}' AS wanted, CAST(CAST('${value}' AS ${widened(have, come)}) AS VARCHAR) AS got`,
      ),
    ),
  )
  const rows = await duckdbRows(casts.join(' UNION ALL '))
  expect(rows.filter(({ wanted, got }) => wanted !== got)).toEqual([])
})
