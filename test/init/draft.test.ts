import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { literal } from '../../src/engine/sql-text.ts'
import { draftFrom } from '../../src/init/draft.ts'
import { initProject } from '../../src/init/project.ts'
import { lintJobs } from '../../src/runtime/lint.ts'
import { runJob } from '../../src/runtime/run.ts'

const log = pino({ level: 'silent' })
const registry = await loadRegistry()

let folder = ''
let engine: Engine
let session: Session
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-draft-test-'))
  engine = await Engine.open({ memoryBytes: 5e8, threads: 2, tempFolder: folder, locked: false })
  session = await engine.connect()
})
afterAll(async () => {
  session.close()
  engine.close()
  await rm(folder, { recursive: true })
})

/** Column → its type, with the format where it has one. */
async function types(name: string, content: string | Buffer): Promise<Record<string, string>> {
  const file = join(folder, name)
  await writeFile(file, content)
  const { columns } = await draftFrom(file, session)
  return Object.fromEntries(
    columns.map(({ name, type, format }) => [name, format === undefined ? type : `${type} ${format}`]),
  )
}

const ndjson = (...records: unknown[]) => `${records.map((record) => JSON.stringify(record)).join('\n')}\n`

describe('the contract drafted from JSON', () => {
  it('has a type for each field', async () => {
    const found = await types(
      'types.ndjson',
      ndjson(
        { eventId: 1, at: '2026-03-01T10:00:00Z', day: '2026-03-01', price: 1.5, ok: true, note: 'x', none: null },
        { eventId: 2, at: '2026-03-01T12:00:00+02:00', day: '2026-03-02', price: 2, ok: false, note: null, none: null },
      ),
    )
    expect(found).toEqual({
      event_id: 'bigint',
      at: 'timestamp',
      day: 'date',
      price: 'double',
      ok: 'boolean',
      note: 'varchar',
      none: 'varchar',
    })
  })

  it.each([
    ['integers beyond int64', ['-1', '18446744073709551615'], 'hugeint'],
    ['integers beyond what JSON readers keep', ['1', '1180591620717411303424'], 'double'],
    ['an integer and a fraction', ['1', '1.5'], 'double'],
    ['numbers and texts', ['1', '"a"'], 'varchar'],
    ['digits as text', ['"0012"', '"13"'], 'varchar'],
    ['a map and a number', ['{"a":1}', '1'], 'json'],
    ['maps of one shape', ['{"os":"a","n":1}', '{"os":null,"n":2}'], 'STRUCT(os VARCHAR, n BIGINT)'],
    ['lists', ['[1,2]', '[]'], 'BIGINT[]'],
    ['dates as Americans write them', ['"02/28/2026"', '"03/01/2026"'], 'date %m/%d/%Y'],
    ['dates with the name of the month', ['"Jun 12 1998"', '"Aug 07 1998"'], 'date %b %d %Y'],
    ['times with a dotted date', ['"28.02.2026 10:15"', '"01.03.2026 00:00"'], 'timestamp %d.%m.%Y %H:%M'],
    ['dates whose order nobody can know', ['"01/02/2026"', '"03/04/2026"'], 'varchar'],
    ['dates and other texts', ['"2026-03-01"', '"soon"'], 'varchar'],
  ])('%s', async (_, values, type) => {
    expect(await types('one.ndjson', `${values.map((value) => `{"v":${value}}`).join('\n')}\n`)).toEqual({ v: type })
  })

  it('reads arrays, whatever the name says, and fields with a dot in their names', async () => {
    const text = '[{"a.b": 1, "C D": 2}, {"a.b": 3, "C D": null}]'
    expect(await types('array.json', text)).toEqual({ 'a.b': 'bigint', c_d: 'bigint' })
    expect(await types('array.ndjson', text)).toEqual({ 'a.b': 'bigint', c_d: 'bigint' })
  })

  it('requires an id only where it is always there and never twice', async () => {
    const required = async (...ids: unknown[]) => {
      const file = join(folder, 'ids.ndjson')
      await writeFile(file, ndjson(...ids.map((id) => ({ id, n: 1 }))))
      return (await draftFrom(file, session)).columns[0]?.required
    }
    expect([await required(1, 2), await required(1, 1), await required(1, null)]).toEqual([true, false, false])
  })
})

describe('the contract drafted from CSV', () => {
  it('keeps leading zeros and knows German dates, other delimiters and no header', async () => {
    expect(await types('de.csv', 'Zip;Tag;n\n00123;31.12.2025;1\n99999;01.02.2026;2\n')).toEqual({
      zip: 'varchar',
      tag: 'date %d.%m.%Y',
      n: 'bigint',
    })
    expect(await types('tabs.tsv', 'a\tb\n1\tx\n2\ty\n')).toEqual({ a: 'bigint', b: 'varchar' })
    expect(await types('bare.csv', '1,2.5\n3,4.5\n')).toEqual({ column0: 'bigint', column1: 'double' })
  })

  it('refuses a file that begins with something else than records', async () => {
    await expect(types('head.csv', '# made by hand\n\na;b;c\n1;2;3\n4;5;6\n')).rejects.toThrow(/before its records/)
    await expect(types('empty.csv', '')).rejects.toThrow(/it is empty/)
  })
})

describe('a drafted job', () => {
  const text = 'Event Id,When,Amount,Größe $,order\n1,31.12.2025 10:00,1.50,"a,b",x\n2,01.01.2026 00:00,-3,"c\nd",\n'
  it.each([
    ['events.csv', Buffer.from(text)],
    ['events.csv.gz', gzipSync(text)],
    ['events.tsv.zst', zstdCompressSync(text.replaceAll(',', '\t').replace('a\tb', 'ab'))],
    [
      'events.json',
      Buffer.from('[\n {"Event Id": 1, "m": {"x": [1, null]}, "mixed": 1},\n {"Event Id": 2, "mixed": "a"}\n]'),
    ],
    ['events.dat', Buffer.from('{"a": 18446744073709551616}\n{"a": -1}\n')],
    ['events ${x}.parquet', undefined],
  ])('from %s lints clean and rejects nothing', async (name, content) => {
    const dir = await mkdtemp(join(folder, 'project-'))
    const file = join(dir, name)
    if (content !== undefined) await writeFile(file, content)
    else
      await session.run(
        `COPY (SELECT 1::UINTEGER AS "Id", now() AS at, {'a': 1::DECIMAL(9,2)} AS s, [DATE '2026-01-01'] AS days, 'x'::BLOB AS raw) TO ${literal(file)} (FORMAT parquet)`,
      )
    const made = await initProject({ registry, log, dir, from: file, name: 'drafted' })
    expect(made.created[0]).toBe(join('jobs', 'drafted.yaml'))
    const path = join(dir, 'jobs', 'drafted.yaml')
    const linted = await lintJobs([path], { registry, log, rate: 1000, env: {} })
    expect(linted.files[0]).toMatchObject({ job: 'drafted', problems: [], warnings: [] })
    const job = await loadJob(path, { registry, env: {} })
    const summary = await runJob({ job, registry, stateDir: join(dir, 'state'), log, command: 'test', version: '0' })
    expect(summary.error).toBeUndefined()
    expect(summary).toMatchObject({ status: 'done', quarantined: 0, read: made.records, unaccounted: 0 })
    expect(summary.passed).toBeGreaterThan(0)
    expect(await readFile(path, 'utf8')).toContain('$schema=../schema/job.schema.json')
  })
})
