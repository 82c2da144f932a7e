import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { cleanSql, jsonSource, type ReadPlan } from '../../src/engine/read-plan.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { resolveType } from '../../src/engine/types.ts'

let engine: Engine
let session: Session
let folder: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-clean-'))
  engine = await Engine.open({ memoryBytes: 256_000_000, threads: 1, tempFolder: folder, locked: false })
  session = await engine.connect()
})
afterAll(() => {
  session.close()
  engine.close()
  rmSync(folder, { recursive: true, force: true })
})

async function read(...records: string[]): Promise<unknown[]> {
  return readAs([], ...records)
}

async function readAs(integers: readonly string[], ...records: string[]): Promise<unknown[]> {
  const file = join(folder, 'records.ndjson')
  writeFileSync(file, records.join('\n'))
  const column = async (name: string, type: string) => ({
    name,
    type: await resolveType(session, type),
    required: false,
    from: name,
  })
  const plan: ReadPlan = {
    columns: [await column('a', 'BIGINT'), await column('b', 'HUGEINT'), await column('c', 'VARCHAR')],
    rules: [],
    unknown: 'discard_value',
    maxRecordBytes: 1 << 20,
  }
  const rows = await session.rows(
    `SELECT a, b FROM (${cleanSql(plan, jsonSource(plan, file, integers))}) WHERE rowid IS NOT NULL`,
  )
  return rows.map(({ a, b }) => [a, b])
}

it('casts integers of a clean chunk exactly, NULL among them, whatever text stands beside', async () => {
  expect(
    await read(
      '{"a":9007199254740993,"b":null,"c":"1.5e3"}',
      '{"b":"-7"}',
      '{"a":"9223372036854775807","b":170141183460469231731687303715884105727}',
    ),
  ).toEqual([
    [9007199254740993n, null],
    [null, -7n],
    [9223372036854775807n, 170141183460469231731687303715884105727n],
  ])
})

it.each(['1.5', '"1.5"', '1e3', '"1e3"', '"1E3"', '9223372036854775808', '"x"', '""', 'true'])(
  'takes a chunk with %s for an integer for one that is not clean',
  async (value) => {
    await expect(read('{"a":1,"b":2}', `{"a":${value},"b":2}`)).rejects.toThrow()
    await expect(read('{"a":1,"b":2}', `{"a":1,"b":${value.replace(/^9223.*/, '1e39')}}`)).rejects.toThrow()
  },
)

/** Everything that is found to be an integer in plain digits: see test/records/plain-integers.test.ts. */
const PLAIN = [
  '0',
  '-0',
  '5',
  '-5',
  '9007199254740993',
  '9223372036854775807',
  '-9223372036854775808',
  'null',
  '"5"',
  '"-70"',
  '"0"',
  '"9223372036854775807"',
]

it('reads integers in plain digits as they are, with the same result as a cast of their texts', async () => {
  const records = [...PLAIN.map((value) => `{"a" : ${value},"b":1}`), '{"b":2}', '{"c":"1.5","b":1,"A":2.5}']
  expect(await readAs(['a'], ...records)).toEqual(await read(...records))
  expect((await readAs(['a'], ...records)).at(-1)).toEqual([null, 1n])
})

it.each(['9223372036854775808', '-9223372036854775809', '9999999999999999999', '"9999999999999999999"'])(
  'takes a chunk with %s for one that is not clean, either way',
  async (value) => {
    await expect(readAs(['a'], '{"a":1,"b":1}', `{"a":${value},"b":1}`)).rejects.toThrow()
    await expect(read('{"a":1,"b":1}', `{"a":${value},"b":1}`)).rejects.toThrow()
  },
)

// What would hide a key or a value from whoever looks at the bytes alone.
it.each([
  '{"a"/**/:1.5,"b":1}',
  '{\'a\':1.5,"b":1}',
  '{a:1.5,"b":1}',
  '{"a":01,"b":1}',
  '{"a":+1,"b":1}',
  '{"a":0x1F,"b":1}',
  '{"b":1,"a"\u00a0:1.5}',
  '{"b":1,"a"\f:1.5}',
  '{"b":1,"a"\v:1.5}',
])('takes no record that is no JSON: %s', async (record) => {
  await expect(readAs(['a'], '{"a":1,"b":1}', record)).rejects.toThrow()
})

it('reads a number that is whole in any integer type as that type, and refuses what does not fit it', async () => {
  const file = join(folder, 'narrow.ndjson')
  for (const [type, most] of [
    ['TINYINT', 127],
    ['SMALLINT', 32767],
    ['INTEGER', 2147483647],
  ] as const) {
    const plan: ReadPlan = {
      columns: [{ name: 'a', type: await resolveType(session, type), required: false, from: 'a' }],
      rules: [],
      unknown: 'discard_value',
      maxRecordBytes: 1 << 20,
    }
    const sql = cleanSql(plan, jsonSource(plan, file, ['a']))
    writeFileSync(file, `{"a":${most}}\n{"a":"${-most}"}`)
    expect(await session.rows(`SELECT a FROM (${sql}) WHERE rowid IS NOT NULL`)).toEqual([{ a: most }, { a: -most }])
    writeFileSync(file, `{"a":1}\n{"a":${most + 1}}`)
    await expect(session.rows(`SELECT a FROM (${sql}) WHERE rowid IS NOT NULL`)).rejects.toThrow()
  }
})
