import { describe, expect, it } from 'vitest'
import { takes, wider } from '../../../src/clients/clickhouse/column-fit.ts'
import { clickHouseColumns, NARROW } from '../../../src/clients/clickhouse/types.ts'

function column(type: string) {
  const [own] = clickHouseColumns([{ name: 'v', type }], { nested: 'native', notNull: [], years: NARROW })
  if (own === undefined) throw new Error(`no column of ${type}`)
  return own
}

describe('a column that is there', () => {
  it.for([
    ['Int64', 'BIGINT'],
    ['Int64', 'UINTEGER'],
    ['Nullable(Int128)', 'HUGEINT'],
    ['Float64', 'FLOAT'],
    ['LowCardinality(Nullable(String))', 'VARCHAR'],
    ['String', "ENUM('a')"],
    ['Decimal(38, 6)', 'DECIMAL(18,4)'],
    ["DateTime64(6, 'UTC')", 'TIMESTAMP'],
    ["Nullable(DateTime64(6, 'UTC'))", 'TIMESTAMP_MS'],
    ["DateTime64(6, 'Asia/Shanghai')", 'TIMESTAMP WITH TIME ZONE'],
    ['DateTime64(6)', 'TIMESTAMP WITH TIME ZONE'],
    ['Array(LowCardinality(String))', 'VARCHAR[]'],
    ["Tuple(\n    os String,\n    at Nullable(DateTime64(6, 'UTC')))", 'STRUCT(os VARCHAR, "at" TIMESTAMP)'],
    ['Map(String, Int64)', 'MAP(VARCHAR, BIGINT)'],
  ] as const)('%s takes %s', ([have, type]) => {
    expect(takes(have, column(type))).toBe(true)
  })

  it.for([
    ['Int32', 'BIGINT'],
    ['UInt64', 'BIGINT'],
    ['Int64', 'UBIGINT'],
    ['Float64', 'BIGINT'],
    ['Decimal(18, 2)', 'DECIMAL(18,4)'],
    ['Decimal(18, 6)', 'DECIMAL(18,4)'],
    ['DateTime', 'TIMESTAMP_S'],
    ["DateTime64(3, 'UTC')", 'TIMESTAMP'],
    // Fewer years.
    ["DateTime64(9, 'UTC')", 'TIMESTAMP'],
    // A reading of the clock that would be shown as another.
    ["DateTime64(6, 'Asia/Shanghai')", 'TIMESTAMP'],
    ['Date', 'DATE'],
    ['FixedString(3)', 'VARCHAR'],
    ["Enum8('a' = 1)", 'VARCHAR'],
    ['Array(Int32)', 'BIGINT[]'],
  ] as const)('%s does not take %s', ([have, type]) => {
    expect(takes(have, column(type))).toBe(false)
  })

  it('is widened to a type that takes both, and stays as Nullable as it was', () => {
    expect(wider('Int32', column('BIGINT'))).toBe('Int64')
    expect(wider('Nullable(Decimal(9, 2))', column('DECIMAL(18,4)'))).toBe('Nullable(Decimal(18,4))')
    expect(wider('UInt64', column('BIGINT'))).toBeUndefined()
    expect(wider('String', column('BIGINT'))).toBeUndefined()
  })
})
