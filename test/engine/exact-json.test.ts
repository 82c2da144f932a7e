import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encode } from '../../src/engine/encode.ts'
import { exactJson } from '../../src/engine/exact-json.ts'
import { jsonSource, type ReadPlan, tableSql } from '../../src/engine/read-plan.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { resolveType } from '../../src/engine/types.ts'

let engine: Engine
let session: Session
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-exact-'))
  engine = await Engine.open({ memoryBytes: 200_000_000, threads: 1, tempFolder: folder, locked: false })
  session = await engine.connect()
})
afterAll(async () => {
  session.close()
  engine.close()
  await rm(folder, { recursive: true, force: true })
})

/** Values (SQL) of a type, written and read again the way a pipe does it. */
async function changed(type: string, values: readonly string[]): Promise<number> {
  const tree = await resolveType(session, type)
  const list = [...values, 'NULL'].map((value) => `((${value})::${type})`).join(', ')
  await session.run(`CREATE OR REPLACE TEMP TABLE before AS SELECT * FROM (VALUES ${list}) AS t(v)`)
  const file = join(folder, 'values.ndjson')
  await encode(session, 'before', 'ndjson', { file, select: `SELECT ${exactJson(tree, 'v')} AS v FROM {batch}` })
  const columns = [{ name: 'v', type: tree, required: false, from: 'v' }]
  const plan: ReadPlan = { columns, rules: [], unknown: 'discard_value', maxRecordBytes: 1_000_000 }
  await session.run(`CREATE OR REPLACE TEMP TABLE after AS ${tableSql(plan, jsonSource(plan, file), false)}`)
  expect(await session.value('SELECT count(*) FROM after WHERE __ok')).toBe(BigInt(values.length + 1))
  return Number(
    await session.value(
      'SELECT count(*) FROM before POSITIONAL JOIN (SELECT v AS w FROM after) WHERE v IS DISTINCT FROM w OR v::VARCHAR IS DISTINCT FROM w::VARCHAR',
    ),
  )
}

describe('exactJson', () => {
  it.each<[type: string, values: string[]]>([
    ['BOOLEAN', ['true', 'false']],
    ['TINYINT', ['-128', '127']],
    ['BIGINT', ['9007199254740993', '-9223372036854775808', '9223372036854775807']],
    ['UBIGINT', ['18446744073709551615']],
    ['HUGEINT', ['170141183460469231731687303715884105727', '-1']],
    ['UHUGEINT', ["'340282366920938463463374607431768211455'"]],
    ['DECIMAL(38,18)', ["'12345678901234567890.123456789012345678'", "'-0.000000000000000001'", '0']],
    ['DECIMAL(4,0)', ['-9999']],
    ['DOUBLE', ["'nan'", "'inf'", "'-inf'", "'-0.0'", '5e-324', '1.7976931348623157e308', '0.1', '1e21']],
    ['FLOAT', ["'nan'", '0.1', '3.4028235e38', '1e-45']],
    [
      'VARCHAR',
      ["''", `'"\\ü😀'`, 'chr(10) || chr(9) || chr(13)', "'a' || chr(0) || 'b'", "'null'", "chr(127) || '\u2028'"],
    ],
    ['JSON', [`'{"a":[1,"x",null,123456789012345678901234567890]}'`, `'"text"'`, "'12'"]],
    ['DATE', ["'2024-02-29'", "'0044-03-15 (BC)'", "'infinity'", "'12044-01-01'"]],
    ['TIME', ["'23:59:59.999999'"]],
    [
      'TIMESTAMP',
      [
        "'2024-01-02 03:04:05.123456'",
        "'0044-03-15 (BC) 10:00:00'",
        "'infinity'",
        "'-infinity'",
        "'12044-01-01 00:00:00.000001'",
      ],
    ],
    ['TIMESTAMP_S', ["'2024-01-02 03:04:05'"]],
    ['TIMESTAMP_MS', ["'2024-01-02 03:04:05.123'"]],
    ['TIMESTAMP_NS', ["'2024-01-02 03:04:05.123456789'"]],
    ['TIMESTAMPTZ', ["'2024-01-02 03:04:05.123456+05:30'", "'0044-03-15 (BC) 10:00:00+00'", "'infinity'"]],
    ['UUID', ["'4ac7a9e9-607c-4c8a-84f3-843f0191e3fd'"]],
    ['INTERVAL', ["'1 year 2 months 3 days 04:05:06.000007'"]],
    ['BLOB', [`'\\xAA\\x00abc"'`, "''"]],
    ["ENUM('a', 'b c')", ["'b c'"]],
    ['INTEGER[3]', ['[1, 2, NULL]']],
    ['BIGINT[]', ['[9007199254740993, NULL]', '[]']],
    ['DOUBLE[][]', [`[['nan'::DOUBLE, 1.5], NULL, []]`]],
    [
      'STRUCT(a DECIMAL(38,18), b STRUCT("C d" TIMESTAMP, e VARCHAR[]))',
      [
        `{'a': '1.000000000000000001'::DECIMAL(38,18), 'b': {'C d': '2024-01-01 00:00:00.000001', 'e': ['x', NULL]}}`,
        `{'a': NULL, 'b': NULL}`,
        `{'a': NULL, 'b': {'C d': NULL, 'e': NULL}}`,
      ],
    ],
    ['STRUCT(t TIMESTAMPTZ)[]', [`[{'t': '2024-01-01 00:00:00+02'}, NULL]`]],
    ['MAP(VARCHAR, BIGINT)', [`map {'k "x"': 9007199254740993, 'n': NULL}`, 'map {}']],
    ['MAP(INTEGER, TIMESTAMP)', [`map {1: '2024-01-01 00:00:00.000001'::TIMESTAMP}`]],
  ])('gives back every value of %s', async (type, values) => {
    expect(await changed(type, values)).toBe(0)
  })

  it('gives back doubles of any size', async () => {
    const seed = Math.random()
    await session.run(`SELECT setseed(${seed})`)
    const tree = await resolveType(session, 'DOUBLE')
    const text = `to_json(${exactJson(tree, 'x')})::VARCHAR`
    const sql = `SELECT count(*) FROM (SELECT (random() - 0.5) * exp((random() - 0.5) * 1400) AS x FROM range(20000)) WHERE ${text}::DOUBLE IS DISTINCT FROM x`
    expect(await session.value(sql), `seed ${seed}`).toBe(0n)
  })

  it('refuses a value that JSON would change', async () => {
    const tree = await resolveType(session, 'UNION(i BIGINT, t VARCHAR)')
    await expect(
      session.run(`SELECT ${exactJson(tree, 'v')} FROM (SELECT union_value(i := 5)::UNION(i BIGINT, t VARCHAR) AS v)`),
    ).rejects.toThrow('does not survive as JSON')
  })
})
