import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { LoadBatch, Loader } from '../../src/core/contracts.ts'
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import { AdflowError } from '../../src/core/errors.ts'
import files from '../../src/loaders/files.ts'
import { DyingProcess } from '../harness/dying-process.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'

type Options = Readonly<Record<string, unknown>>

let folder: string
let out: string
let bench: LoaderBench
beforeEach(async () => {
  folder = newFolder()
  out = join(folder, 'out')
  bench = await LoaderBench.open({
    definition: files as LoaderDefinition,
    folder,
    options: [{ path: 'out', format: 'csv' }],
  })
})
afterEach(() => {
  bench.close()
  removeFolder(folder)
})

const PARQUET = { path: 'out', format: 'parquet' }
const opened = (rows: string, options: Options = PARQUET) => bench.open(bench.create({ path: 'out', ...options }), rows)
/** Everything below the folder, without folders; the token's digits as T. */
const listed = () =>
  readdirSync(out, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(out.length + 1)
        .replace(/[0-9a-f]{64}|[0-9a-f]{24}/, 'T'),
    )
    .sort()
const data = () => listed().filter((name) => !name.startsWith('_adflow/'))
const texts = (pattern: RegExp) =>
  readdirSync(out, { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name) && !name.startsWith('_adflow'))
    .map((name) => readFileSync(join(out, name)))
const values = (names: string, ...rows: string[]) =>
  `SELECT * FROM (VALUES ${rows.map((row) => `(${row})`).join(', ')}) AS v(${names})`
const count = async (glob = '**/*.parquet') => {
  const [row] = await bench.session.rows(`SELECT count(*)::INTEGER AS n FROM read_parquet('${out}/${glob}')`)
  return row?.['n']
}
const write = (loader: Loader, batch: LoadBatch) => loader.write(batch, { signal: new AbortController().signal })

describe('options', () => {
  test.for([
    [{ format: 'csv', compression: 'snappy' }, 'csv is written with one of none, gzip, zstd'],
    [{ name: '../x' }, 'letters, digits, `.`, `_` and `-`, beginning with a letter or digit'],
    [{ name: '_adflow' }, 'letters, digits, `.`, `_` and `-`, beginning with a letter or digit'],
  ] as const)('%j is refused', ([options, message]) => {
    const { error } = files.options.safeParse({ ...PARQUET, ...options })
    expect(error?.issues.map((issue) => issue.message)).toEqual([message])
  })

  test('a partition that does not fit the columns is said before the first batch', async () => {
    await expect(opened('SELECT 1 AS id', { ...PARQUET, partition: { dt: 'event_time::DATE' } })).rejects.toMatchObject(
      {
        code: 'SQL_INVALID',
        message: expect.stringContaining('the partition dt of store'),
        hint: 'columns here: id',
      },
    )
  })
})

test.for([
  [{ format: 'parquet' }, 'T.parquet'],
  [{ format: 'csv' }, 'T.csv'],
  [{ format: 'csv', compression: 'gzip' }, 'T.csv.gz'],
  [{ format: 'ndjson', compression: 'zstd', name: 'events-' }, 'events-T.ndjson.zst'],
] as const)('%j writes %s and a manifest', async ([options, name]) => {
  await bench.write(await opened('SELECT 1 AS id', options), { rows: 'SELECT 1 AS id' })
  expect(listed()).toEqual([`_adflow/${name.replace(/T.*/, 'T')}.${options.format}.json`, name].sort())
  if (options.format === 'csv' && 'compression' in options)
    expect(texts(/gz$/).map((bytes) => String(gunzipSync(bytes)))).toEqual(['id\n1\n'])
})

test('the manifest says what was published, with a digest that holds', async () => {
  const rows = 'SELECT i AS id FROM range(10) AS t(i)'
  const loader = await opened(rows, { ...PARQUET, partition: { odd: 'id % 2' } })
  const { outputs } = await bench.write(loader, { at: 3, rows })
  const [name = ''] = readdirSync(join(out, '_adflow')).filter((entry) => entry.endsWith('.json'))
  const manifest = JSON.parse(readFileSync(join(out, '_adflow', name), 'utf8'))
  expect(manifest).toMatchObject({
    version: 1,
    job: 'conformance',
    loader: 'store',
    range: { from: '3', to: '4' },
    digest: 'sha256:3',
    rows: 10,
    clock: '2026-01-02T03:04:05.678Z',
  })
  expect(manifest.files).toHaveLength(2)
  for (const file of manifest.files) {
    const bytes = readFileSync(join(out, file.path))
    expect(file).toMatchObject({
      rows: 5,
      bytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    })
  }
  expect(outputs).toEqual(manifest.files.map(({ path }: { path: string }) => join(out, path)))
})

describe('text formats', () => {
  test('CSV tells NULL from the empty string', async () => {
    const rows = values('a, b', `NULL, ''`, `'', NULL`, `'x"y', 'p,q'`)
    await bench.write(await opened(rows, { format: 'csv' }), { rows })
    expect(texts(/csv$/).map(String)).toEqual(['a,b\n,""\n"",\n"x""y","p,q"\n'])
  })

  test('NDJSON is JSON, also for NaN, wide decimals and 128-bit integers', async () => {
    const rows = `SELECT 'nan'::DOUBLE AS a, 0.5::DOUBLE AS b, 12345678901234567890.5::DECIMAL(38,18) AS c, 1.25::DECIMAL(9,2) AS d, 9007199254740993 AS e`
    await bench.write(await opened(rows, { format: 'ndjson' }), { rows, lazy: true })
    const [text = ''] = texts(/ndjson$/).map(String)
    expect(text).toBe(
      '{"a":"nan","b":0.5,"c":"12345678901234567890.500000000000000000","d":1.25,"e":9007199254740993}\n',
    )
    expect(JSON.parse(text)).toMatchObject({ a: 'nan', d: 1.25 })
  })
})

describe('partitions', () => {
  test('each combination of values has its folder, NULL and odd characters included', async () => {
    const rows = values(
      'id, dt, country',
      `1, DATE '2026-01-01', 'CN'`,
      `2, DATE '2026-01-01', NULL`,
      `3, DATE '2026-01-02', '../x'`,
    )
    await bench.write(await opened(rows, { ...PARQUET, partition: { dt: 'dt', where: 'country' } }), { rows })
    expect(data()).toEqual([
      'dt=2026-01-01/where=CN/T.parquet',
      'dt=2026-01-01/where=__HIVE_DEFAULT_PARTITION__/T.parquet',
      'dt=2026-01-02/where=..%2Fx/T.parquet',
    ])
    expect(
      await bench.session.rows(
        `SELECT id, "where" FROM read_parquet('${out}/*/*/*.parquet', hive_partitioning = true) ORDER BY id`,
      ),
    ).toEqual([
      { id: 1, where: 'CN' },
      { id: 2, where: null },
      { id: 3, where: '../x' },
    ])
  })

  test('folders that differ in case only do not overwrite each other where case does not count', async () => {
    const rows = values('id, c', `1, 'cn'`, `2, 'CN'`, `3, 'de'`)
    await bench.write(await opened(rows, { ...PARQUET, partition: { c: 'c' } }), { rows })
    const found = data().map((name) => name.toLowerCase())
    expect(new Set(found).size).toBe(3)
  })

  test('many partitions keep every row, though the engine writes some in several files', async () => {
    const rows = 'SELECT i AS id, hash(i) % 300 AS part FROM range(300000) AS t(i)'
    const receipt = await bench.write(await opened(rows, { ...PARQUET, partition: { part: 'part' } }), { rows })
    expect(receipt.rows).toBe(300_000)
    expect(receipt.outputs.length).toBeGreaterThan(300)
    const [row] = await bench.session.rows(
      `SELECT count(*)::INTEGER AS n, count(DISTINCT id)::INTEGER AS ids, count(*) FILTER (WHERE filename NOT LIKE '%/part=' || part || '/%')::INTEGER AS astray FROM read_parquet('${out}/**/*.parquet', filename = true, hive_partitioning = false)`,
    )
    expect(row).toEqual({ n: 300_000, ids: 300_000, astray: 0 })
  })

  test.for([
    ['max_partitions', { partition: { p: 'id' }, max_partitions: 9 }, 'STORE_MISMATCH', /more than 9 partitions by p/],
    [
      'an expression that fails on a row',
      { partition: { p: "CASE WHEN id = 5 THEN error('no') ELSE 'x' END" } },
      'SQL_INVALID',
      /fails on a row/,
    ],
    ['an expression that does not repeat', { partition: { p: 'random()' } }, 'SQL_INVALID', /the same value twice/],
  ] as const)('%s is an error and publishes nothing', async ([, options, code, message]) => {
    const rows = 'SELECT i AS id FROM range(10) AS t(i)'
    const loader = await opened(rows, { ...PARQUET, ...options })
    await expect(bench.write(loader, { rows })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
      hint: expect.any(String),
    })
    expect(listed()).toEqual([])
  })
})

describe('after a kill', () => {
  test('files of an attempt that the next one does not have are removed', async () => {
    const rows = 'SELECT i AS id FROM range(8) AS t(i)'
    const options = { ...PARQUET, partition: { p: 'id % 4' } }
    let steps = 0
    for (let whole = false; !whole; steps += 1) {
      rmSync(out, { recursive: true, force: true })
      const doomed = await opened(rows, options)
      const dying = new DyingProcess(steps)
      const batch = dying.batch(await bench.batch({ rows }))
      whole = await dying.run(() => write(doomed, batch))
      if (whole) break
      // The rules of the job have changed in between: other rows pass.
      const fewer = `${rows} WHERE i % 4 < 2`
      const receipt = await bench.write(await opened(fewer, options), { rows: fewer })
      const expected = receipt.repeated ? 4 : 2
      expect(data(), `killed before step ${steps}`).toHaveLength(expected)
      expect(await count()).toBe(expected * 2)
    }
    expect(steps).toBeGreaterThan(10)
  })

  test('nothing that a reader would take for data is ever unfinished', async () => {
    const rows = 'SELECT i AS id FROM range(8) AS t(i)'
    for (let steps = 0, whole = false; !whole; steps += 1) {
      rmSync(out, { recursive: true, force: true })
      const doomed = await opened(rows, { ...PARQUET, partition: { p: 'id % 2' } })
      const dying = new DyingProcess(steps)
      const batch = dying.batch(await bench.batch({ rows }))
      whole = await dying.run(() => write(doomed, batch))
      const named = listed().filter((name) => name.endsWith('.parquet'))
      expect(named.filter((name) => name.startsWith('_adflow'))).toEqual([])
      if (named.length > 0) expect(await count()).toBe(named.length * 4)
    }
  })

  test('unfinished files of killed processes are swept, those of this one are not', async () => {
    await opened('SELECT 1 AS id')
    const [owner = ''] = readdirSync(join(out, '_adflow', 'tmp'))
    const own = join(out, '_adflow', 'tmp', owner)
    for (const name of ['old', 'new']) {
      mkdirSync(join(own, name))
      writeFileSync(join(own, name, '0.part'), 'x')
    }
    utimesSync(join(own, 'old'), 1, 1)
    await opened('SELECT 1 AS id')
    expect(readdirSync(own)).toEqual(['new'])
  })
})

describe('what else happens to files', () => {
  test.for([
    ['gone', (file: string) => rmSync(file), /is gone/],
    ['cut off', (file: string) => writeFileSync(file, 'x'), /has 1 bytes, not/],
  ] as const)('a repeated batch whose file is %s is an error, not a success', async ([, harm, message]) => {
    const loader = await opened('SELECT 1 AS id')
    const { outputs } = await bench.write(loader, { rows: 'SELECT 1 AS id' })
    harm(outputs[0] ?? '')
    await expect(bench.write(loader, { rows: 'SELECT 1 AS id' })).rejects.toMatchObject({
      code: 'STORE_MISMATCH',
      message: expect.stringMatching(message),
    })
  })

  test('a manifest that somebody has edited is named', async () => {
    const loader = await opened('SELECT 1 AS id')
    await bench.write(loader, { rows: 'SELECT 1 AS id' })
    const [name = ''] = readdirSync(join(out, '_adflow')).filter((entry) => entry.endsWith('.json'))
    writeFileSync(join(out, '_adflow', name), '{')
    await expect(loader.history?.('conformance', { engine: bench.session })).rejects.toMatchObject({
      code: 'STORE_DAMAGED',
      message: expect.stringContaining(name),
    })
  })

  test('a full disk is named with the folder, publishes nothing and gives its space back', async () => {
    const loader = await opened('SELECT 1 AS id')
    const batch = await bench.batch({ rows: 'SELECT 1 AS id' })
    const full: LoadBatch = {
      ...batch,
      encode: async (_, { file }) => {
        writeFileSync(file, 'as much as there was room for')
        throw new AdflowError('DISK_FULL', 'cannot write with the embedded engine: no space left on the device')
      },
    }
    await expect(write(loader, full)).rejects.toMatchObject({
      code: 'DISK_FULL',
      exit: 74,
      message: expect.stringContaining(out),
    })
    expect(listed()).toEqual([])
    expect(await write(loader, batch)).toMatchObject({ rows: 1, repeated: false })
  })

  test('a file where the folder should be is named', async () => {
    writeFileSync(out, 'in the way')
    await expect(opened('SELECT 1 AS id')).rejects.toMatchObject({
      code: 'LOCAL_IO',
      message: expect.stringContaining(out),
    })
  })

  test('finding out what the loader needs leaves no trace', () => {
    bench.create({ path: 'not/there/yet', format: 'csv' })
    expect(() => statSync(join(folder, 'not'))).toThrow(/ENOENT/)
  })
})
