import { afterAll, beforeAll, expect, test } from 'vitest'
import { exactItems, writtenType } from '../../src/engine/exact.ts'
import { readSeveralTimes } from '../../src/engine/materialise.ts'
import { Engine, type Session } from '../../src/engine/session.ts'

let engine: Engine
let session: Session
beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 100_000_000, threads: 2, tempFolder: '/nowhere' })
  session = await engine.connect()
})
afterAll(() => {
  session.close()
  engine.close()
})

test.for([
  ['HUGEINT', 'parquet', 'DECIMAL(38,0)'],
  ['STRUCT(n UHUGEINT, HUGEINT VARCHAR)[]', 'parquet', 'STRUCT(n DECIMAL(38,0), HUGEINT VARCHAR)[]'],
  ['MAP(VARCHAR, INTERVAL)', 'parquet', 'MAP(VARCHAR, VARCHAR)'],
  ['TIME WITH TIME ZONE', 'parquet', 'VARCHAR'],
  ['TIMESTAMP WITH TIME ZONE', 'parquet', 'TIMESTAMP WITH TIME ZONE'],
  ['DECIMAL(38,18)', 'parquet', 'DECIMAL(38,18)'],
  ['DECIMAL(15,2)', 'ndjson', 'DECIMAL(15,2)'],
  ['DECIMAL(16,2)', 'ndjson', 'VARCHAR'],
  ['STRUCT(price DECIMAL(38,18))', 'ndjson', 'STRUCT(price VARCHAR)'],
  ['HUGEINT', 'ndjson', 'HUGEINT'],
  ['HUGEINT', 'csv', 'HUGEINT'],
] as const)('%s is written to %s as %s', ([type, format, written]) => {
  expect(writtenType(type, format)).toBe(written)
})

test('columns that can go as they are cost no SELECT list, and those that cannot are cast alone', async () => {
  const relation = `(SELECT 1::BIGINT AS "a b", 2::HUGEINT AS n, 0.5::DOUBLE AS f, 'nan'::DOUBLE AS g)`
  const columns = await session.describe(`SELECT * FROM ${relation}`)
  expect(await exactItems(session, relation, columns, 'csv')).toBeUndefined()
  expect(await exactItems(session, relation, columns, 'parquet')).toEqual([
    '"a b"',
    'CAST("n" AS DECIMAL(38,0)) AS "n"',
    '"f"',
    '"g"',
  ])
  const items = (await exactItems(session, relation, columns, 'ndjson')) ?? []
  expect(items.slice(0, 3)).toEqual(['"a b"', '"n"', '"f"'])
  expect(
    await session.value(`SELECT to_json({g: g})::VARCHAR FROM (SELECT ${items.join(', ')} FROM ${relation})`),
  ).toBe('{"g":"nan"}')
})

test('a relation that is read several times is evaluated once and keeps its order', async () => {
  await session.run('CREATE TEMP SEQUENCE evaluations')
  const relation = `(SELECT i, nextval('evaluations') AS n FROM range(100000) AS t(i))`
  const read = (from: string) => session.rows(`SELECT i, n FROM ${from} AS batch LIMIT 3`)
  const [first, second] = await readSeveralTimes(session, relation, async (from) => [
    await read(from),
    await read(from),
  ])
  expect(first).toEqual([
    { i: 0n, n: 1n },
    { i: 1n, n: 2n },
    { i: 2n, n: 3n },
  ])
  expect(second).toEqual(first)
  expect(await session.rows(`SELECT * FROM duckdb_tables() WHERE table_name LIKE '__adflow%'`)).toEqual([])
})
