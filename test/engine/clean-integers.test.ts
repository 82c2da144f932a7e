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
    `SELECT a, b FROM (${cleanSql(plan, jsonSource(plan, file))}) WHERE rowid IS NOT NULL`,
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
