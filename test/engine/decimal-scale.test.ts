import { tmpdir } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine, type Session } from '../../src/engine/session.ts'
import { literal } from '../../src/engine/sql-text.ts'
import { resolveType, strictSql, typedSql } from '../../src/engine/types.ts'

let engine: Engine
let session: Session

beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 256_000_000, threads: 1, tempFolder: tmpdir(), locked: false })
  session = await engine.connect()
})

afterAll(() => {
  session.close()
  engine.close()
})

/** What both casts make of a text: null where they refuse it. */
async function cast(text: string | null, typeName: string): Promise<unknown> {
  const type = await resolveType(session, typeName)
  const from = `FROM (SELECT ${text === null ? 'NULL::VARCHAR' : literal(text)} AS raw)`
  const typed = await session.value(`SELECT (${typedSql(type, 'raw')})::VARCHAR ${from}`)
  const strict = await session.value(`SELECT (${strictSql(type, 'raw')})::VARCHAR ${from}`).catch(() => null)
  expect(strict, `strict cast of ${text}`).toEqual(typed)
  return typed
}

describe('a text becomes a decimal', () => {
  it.each<[text: string | null, type: string, value: string | null]>([
    ['1.5', 'decimal(20,2)', '1.50'],
    ['1.50000', 'decimal(20,2)', '1.50'],
    ['-1.25', 'decimal(20,2)', '-1.25'],
    ['-7', 'decimal(20,2)', '-7.00'],
    ['.5', 'decimal(20,2)', '0.50'],
    ['5.', 'decimal(20,2)', '5.00'],
    ['+1.25', 'decimal(20,2)', '1.25'],
    [' 1.25 ', 'decimal(20,2)', '1.25'],
    ['1234567890123456.78', 'decimal(20,2)', '1234567890123456.78'],
    ['12', 'decimal(9,0)', '12'],
    ['12.000', 'decimal(9,0)', '12'],
    ['1e3', 'decimal(20,2)', '1000.00'],
    ['1.2345678e+05', 'decimal(20,2)', '123456.78'],
    ['1.5E-1', 'decimal(20,2)', '0.15'],
    ['-1.50e-1', 'decimal(20,2)', '-0.15'],
    ['0E-10', 'decimal(20,2)', '0.00'],
    ['0.0', 'decimal(9,0)', '0'],
    ['1e-07', 'decimal(18,7)', '0.0000001'],
    [null, 'decimal(20,2)', null],
    ['', 'decimal(20,2)', null],
    ['abc', 'decimal(20,2)', null],
    ['12e', 'decimal(20,2)', null],
  ])('%j in %s: %j', async (text, type, value) => {
    expect(await cast(text, type)).toBe(value)
  })

  it.each([
    ['1.005', 'decimal(20,2)'],
    ['-1.005', 'decimal(20,2)'],
    ['1.0049999999999999', 'decimal(20,2)'],
    ['0.30000000000000004', 'decimal(18,6)'],
    ['1.5', 'decimal(9,0)'],
    ['1e-07', 'decimal(18,6)'],
    ['-1e-07', 'decimal(18,6)'],
    ['5E-3', 'decimal(20,2)'],
    ['1.2345e+02', 'decimal(20,1)'],
    ['1.005e1', 'decimal(20,1)'],
  ])('%s in %s: never, it would be rounded', async (text, type) => {
    expect(await cast(text, type)).toBeNull()
  })

  it('inside objects and lists too', async () => {
    const type = await resolveType(session, 'struct(price decimal(9,2))[]')
    const typed = (text: string) =>
      session.value(`SELECT (${typedSql(type, 'raw')})::VARCHAR FROM (SELECT [{'price': ${literal(text)}}] AS raw)`)
    expect([await typed('1.5'), await typed('1.005')]).toEqual(["[{'price': 1.50}]", "[{'price': NULL}]"])
  })
})
