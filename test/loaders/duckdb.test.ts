import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { aliasOf, warehouseFile } from '../../src/clients/duckdb/attach.ts'
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import { tokenNumber } from '../../src/core/token.ts'
import duckdb from '../../src/loaders/duckdb.ts'
import { DyingProcess } from '../harness/dying-process.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'

const PATH = 'w.duckdb'

let folder: string
let bench: LoaderBench
const openBench = async () => {
  bench = await LoaderBench.open({
    definition: duckdb as LoaderDefinition,
    folder,
    options: [{ path: PATH, table: 't' }],
  })
}
beforeEach(async () => {
  folder = newFolder()
  await openBench()
})
afterEach(() => {
  bench.close()
  removeFolder(folder)
})

const wh = () => aliasOf(warehouseFile(PATH, folder))
const loaderOf = (options: Readonly<Record<string, unknown>> = {}, id = 'store') =>
  bench.create({ path: PATH, table: 't', ...options }, id)
const OWN = "COLUMNS(c -> c <> '_batch')"
const table = (name = 't') => bench.session.rows(`SELECT ${OWN} FROM ${wh()}.main."${name}" ORDER BY ALL NULLS LAST`)
const types = async () =>
  Object.fromEntries(
    (await bench.session.describe(`SELECT ${OWN} FROM ${wh()}.main.t`)).map(({ name, type }) => [name, type]),
  )
const values = (names: string, ...rows: string[]) =>
  `SELECT * FROM (VALUES ${rows.map((row) => `(${row})`).join(', ')}) AS v(${names})`
const finish = (loader: ReturnType<typeof loaderOf>, complete = true) =>
  loader.finish?.({ engine: bench.session, complete })

describe('options', () => {
  test.for([
    [{ write: 'merge' }, '`write: merge` needs a `key`'],
    [{ key: ['id'] }, '`key` is only for `write: merge`'],
    [{ table: '_adflow_batches' }, 'this name is kept for tables of adflow itself'],
    [{ table: 't__adflow_next' }, 'this name is kept for tables of adflow itself'],
  ] as const)('%j is refused', ([options, message]) => {
    const { error } = duckdb.options.safeParse({ path: PATH, table: 't', ...options })
    expect(error?.issues.map((issue) => issue.message)).toEqual([message])
  })

  test('a key column that does not reach the loader is a mistake of the job', async () => {
    const opened = bench.open(loaderOf({ write: 'merge', key: ['nope'] }), 'SELECT 1 AS id')
    await expect(opened).rejects.toMatchObject({ code: 'JOB_INVALID', hint: 'columns here: id' })
  })
})

describe('the number of the batch', () => {
  const numbers = () => bench.session.rows(`SELECT id, _batch FROM ${wh()}.main.t ORDER BY id`)
  const numberAt = async (at: number) => tokenNumber((await bench.batch({ at, rows: values('id', '1') })).token)

  test('stands beside each row, and a merge puts that of the later batch', async () => {
    const loader = await bench.open(loaderOf({ write: 'merge', key: ['id'] }), 'SELECT 1 AS id')
    await bench.write(loader, { rows: values('id', '1', '2') })
    await bench.write(loader, { at: 1, rows: values('id', '2', '3') })
    const [first, second] = [await numberAt(0), await numberAt(1)]
    expect(await numbers()).toEqual([
      { id: 1, _batch: first },
      { id: 2, _batch: second },
      { id: 3, _batch: second },
    ])
  })

  test('is added to a table from before, whose rows have none', async () => {
    await bench.write(await bench.open(loaderOf({ batch_column: false }), 'SELECT 1 AS id'), {
      rows: values('id', '1'),
    })
    expect(await types()).toEqual({ id: 'INTEGER' })
    await bench.write(await bench.open(loaderOf(), 'SELECT 1 AS id'), { at: 1, rows: values('id', '2') })
    expect(await numbers()).toEqual([
      { id: 1, _batch: null },
      { id: 2, _batch: await numberAt(1) },
    ])
  })

  test('needs a name that no column of the batch has', async () => {
    const check = (batch_column: string) =>
      duckdb.check?.(duckdb.options.parse({ path: PATH, table: 't', batch_column }), {
        path: ['load', 'store'],
        columns: [{ name: 'ID', type: 'INTEGER', from: [] }],
        analysis: {} as never,
      })
    expect(await check('id')).toMatchObject([{ kind: 'mistake', path: ['load', 'store', 'batch_column'] }])
    expect(await check('_batch')).toEqual([])
  })
})

describe('merge', () => {
  const merging = (key: string[]) => bench.open(loaderOf({ write: 'merge', key }), 'SELECT 1 AS id, NULL::VARCHAR AS v')

  test('updates what is there, adds what is not, and the last row of a key in the batch wins', async () => {
    const loader = await merging(['id'])
    await bench.write(loader, { rows: values('id, v', `1, 'a'`, `2, 'b'`) })
    const receipt = await bench.write(loader, { at: 1, rows: values('id, v', `2, 'c'`, `3, 'x'`, `3, 'y'`, `2, 'd'`) })
    expect(receipt.rows).toBe(4)
    expect(await table()).toEqual([
      { id: 1, v: 'a' },
      { id: 2, v: 'd' },
      { id: 3, v: 'y' },
    ])
  })

  test('the last row wins among many, in the order of the relation', async () => {
    const loader = await merging(['id'])
    const rows = `SELECT (i % 1000)::INTEGER AS id, 'v' || i AS v FROM range(200000) AS t(i)`
    await bench.write(loader, { rows, lazy: true })
    expect(
      await bench.session.rows(
        `SELECT count(*)::INTEGER AS n, count(*) FILTER (WHERE v = 'v' || (199000 + id))::INTEGER AS last FROM ${wh()}.main.t`,
      ),
    ).toEqual([{ n: 1000, last: 1000 }])
  })

  test('NULL in a key is a value like any other', async () => {
    const loader = await merging(['id'])
    await bench.write(loader, { rows: values('id, v', `NULL::INTEGER, 'a'`, `1, 'b'`) })
    await bench.write(loader, { at: 1, rows: values('id, v', `NULL::INTEGER, 'c'`, `NULL, 'd'`) })
    expect(await table()).toEqual([
      { id: 1, v: 'b' },
      { id: null, v: 'd' },
    ])
  })

  test('takes keys of several columns, in any case, and columns that are all keys', async () => {
    const loader = await merging(['ID', 'v'])
    await bench.write(loader, { rows: values('id, v', `1, 'a'`, `1, 'b'`, `1, NULL`) })
    await bench.write(loader, { at: 1, rows: values('id, v', `1, 'a'`, `1, NULL`, `2, 'a'`) })
    expect(await table()).toEqual([
      { id: 1, v: 'a' },
      { id: 1, v: 'b' },
      { id: 1, v: null },
      { id: 2, v: 'a' },
    ])
  })

  test('columns of the table that the batch does not have keep their values', async () => {
    const loader = await merging(['id'])
    await bench.write(loader, { rows: values('id, v', `1, 'a'`) })
    await bench.session.run(`ALTER TABLE ${wh()}.main.t ADD COLUMN note VARCHAR DEFAULT 'mine'`)
    await bench.write(loader, { at: 1, rows: values('id, v', `1, 'b'`) })
    expect(await table()).toEqual([{ id: 1, v: 'b', note: 'mine' }])
  })
})

describe('columns', () => {
  test('integers and decimals grow without loss, also while batches come', async () => {
    const loader = await bench.open(loaderOf(), 'SELECT 1::INTEGER AS i, 1::DECIMAL(6,2) AS d')
    await bench.write(loader, { rows: 'SELECT 1::INTEGER AS i, 1.25::DECIMAL(6,2) AS d' })
    await bench.write(loader, { at: 1, rows: 'SELECT 9007199254740993::BIGINT AS i, 0.1234::DECIMAL(8,4) AS d' })
    expect(await types()).toEqual({ i: 'BIGINT', d: 'DECIMAL(8,4)' })
    expect((await table()).map(({ i, d }) => `${i} ${d}`)).toEqual(['1 1.2500', '9007199254740993 0.1234'])
  })

  test('any other change of a type is refused by column, both types and a way out, and nothing is changed', async () => {
    const loader = await bench.open(loaderOf(), `SELECT 'a' AS day`)
    await bench.write(loader, { rows: `SELECT 'a' AS day` })
    const rows = `SELECT 1 AS more, DATE '2026-01-01' AS day`
    await expect(bench.open(loader, rows)).rejects.toMatchObject({
      code: 'STORE_MISMATCH',
      message: 'the table main.t does not fit: column day is VARCHAR, the batch has DATE',
      hint: 'cast day to VARCHAR in the job, or change the table',
    })
    await expect(bench.write(loader, { at: 1, rows })).rejects.toMatchObject({ code: 'STORE_MISMATCH' })
    expect(await types()).toEqual({ day: 'VARCHAR' })
  })

  test.for([
    ['a new column', 'SELECT 1::INTEGER AS id, 2 AS more', 'has no column more (INTEGER)'],
    ['a wider type', 'SELECT 1::BIGINT AS id', 'column id is INTEGER, the batch has BIGINT'],
  ])('without evolve, %s is refused', async ([, rows = '', message]) => {
    await bench.open(loaderOf(), 'SELECT 1::INTEGER AS id')
    const opened = bench.open(loaderOf({ evolve: false }), rows)
    await expect(opened).rejects.toMatchObject({
      code: 'STORE_MISMATCH',
      message: expect.stringContaining(message ?? ''),
    })
    await expect(opened).rejects.toMatchObject({ hint: expect.stringContaining('evolve: true') })
  })

  test('a constraint of the table is named, and the batch leaves nothing', async () => {
    await bench.session.run(`CREATE TABLE ${wh()}.main.t (id INTEGER, must VARCHAR NOT NULL)`)
    const loader = await bench.open(loaderOf(), 'SELECT 1 AS id')
    await expect(bench.write(loader, { rows: 'SELECT 1 AS id' })).rejects.toMatchObject({
      code: 'STORE_MISMATCH',
      message: expect.stringMatching(/NOT NULL constraint failed: t.must/),
    })
    expect(await table()).toEqual([])
    expect(await table('_adflow_batches')).toEqual([])
  })

  test('an error of the relation itself stays what it is', async () => {
    const loader = await bench.open(loaderOf(), 'SELECT 1 AS id')
    const rows = `SELECT CAST(x AS INTEGER) AS id FROM (VALUES ('1'), ('x')) AS v(x)`
    await expect(bench.write(loader, { rows, lazy: true })).rejects.toMatchObject({
      code: 'ENGINE_FAILED',
      message: expect.stringMatching(/^Conversion Error/),
    })
    expect(await table()).toEqual([])
  })

  test('a schema and names that need quotes are made as they are written', async () => {
    const loader = await bench.open(
      loaderOf({ schema: 'ad "ops"', table: `o'brien "x"` }),
      `SELECT 1 AS "a ""b"" c", 2 AS "select"`,
    )
    await bench.write(loader, { rows: `SELECT 1 AS "a ""b"" c", 2 AS "select"` })
    expect(await bench.session.rows(`SELECT ${OWN} FROM ${wh()}."ad ""ops"""."o'brien ""x"""`)).toEqual([
      { 'a "b" c': 1, select: 2 },
    ])
  })
})

test('each batch is entered with its positions as text and its own clock', async () => {
  const loader = await bench.open(loaderOf(), 'SELECT 1 AS id')
  await bench.write(loader, { at: 7, rows: 'SELECT 1 AS id' })
  const [entry] = await table('_adflow_batches')
  expect(entry).toMatchObject({
    target: 'main.t',
    loader: 'store',
    job: 'conformance',
    source: 'made_up',
    lane: 'lane',
    from_position: '7',
    to_position: '8',
    digest: 'sha256:7',
    rows: 1n,
    clock: '2026-01-02 03:04:05.678+00',
  })
})

test('a loader that gets another id in its job loads nothing twice', async () => {
  await bench.write(await bench.open(loaderOf(), 'SELECT 1 AS id'), { rows: 'SELECT 1 AS id' })
  const renamed = await bench.open(loaderOf({}, 'renamed'), 'SELECT 1 AS id')
  expect(await bench.write(renamed, { rows: 'SELECT 1 AS id' })).toMatchObject({ repeated: true })
  expect(await renamed.history?.('conformance', { engine: bench.session })).toEqual([])
})

describe('replace', () => {
  const ID = 'SELECT 1 AS id'
  const replacing = (options = {}) => bench.open(loaderOf({ write: 'replace', ...options }), ID)
  const ids = async () => (await table()).map(({ id }) => id)

  test('shows the rows of a run when it is complete, and those of the run before until then', async () => {
    const first = await replacing()
    await bench.write(first, { rows: 'SELECT 1 AS id' })
    await finish(first)
    const second = await replacing()
    await bench.write(second, { at: 1, rows: 'SELECT 2 AS id' })
    await bench.write(second, { at: 2, rows: 'SELECT 3 AS id' })
    expect(await ids()).toEqual([1])
    await finish(second)
    expect(await ids()).toEqual([2, 3])
  })

  test('a run that was killed late is gone on with: never is only its tail shown', async () => {
    const first = await replacing()
    await bench.write(first, { rows: 'SELECT 1 AS id' })
    await finish(first)
    for (const at of [2, 3, 4]) await bench.write(first, { at, rows: `SELECT ${at} AS id` })
    bench.close() // without finish: as a kill leaves it
    await openBench()
    const next = await replacing()
    expect(await ids()).toEqual([1])
    expect(await bench.write(next, { at: 4, rows: 'SELECT 4 AS id' })).toMatchObject({ repeated: true })
    await bench.write(next, { at: 5, rows: 'SELECT 5 AS id' })
    await finish(next)
    expect(await ids()).toEqual([2, 3, 4, 5])
  })

  test('killed before any step of the exchange, the table has the old rows or the new ones, and the next run has the new', async () => {
    let steps = 0
    for (let whole = false; !whole; steps += 1) {
      const loader = await replacing()
      await bench.write(loader, { at: steps, rows: `SELECT ${steps} AS id` })
      const session = await bench.connect()
      const dying = new DyingProcess(steps)
      whole = await dying.run(() => Promise.resolve(loader.finish?.({ engine: dying.engine(session), complete: true })))
      session.close()
      if (steps > 0 || whole) expect(await ids()).toEqual([whole ? steps : steps - 1])
      await finish(await replacing())
      expect(await ids()).toEqual([steps])
    }
    expect(steps).toBeGreaterThan(3)
  })

  test('a run that is not complete leaves the table to the next one', async () => {
    const loader = await replacing()
    await bench.write(loader, { rows: ID })
    await finish(loader, false)
    expect(
      await bench.session.rows(`SELECT * FROM duckdb_tables() WHERE database_name = '${wh()}' AND table_name = 't'`),
    ).toEqual([])
    await finish(await replacing())
    expect(await ids()).toEqual([1])
  })

  test('a run with nothing new to read leaves the table as it is', async () => {
    const loader = await replacing()
    await bench.write(loader, { rows: ID })
    await finish(loader)
    await finish(await replacing())
    expect(await bench.write(await replacing(), { rows: ID })).toMatchObject({ repeated: true })
    await finish(await replacing())
    expect(await ids()).toEqual([1])
  })

  test('a run of which no row passes leaves an empty table', async () => {
    const loader = await replacing()
    await bench.write(loader, { rows: ID })
    await finish(loader)
    await bench.write(loader, { at: 1, rows: `${ID} LIMIT 0` })
    await finish(loader)
    expect(await ids()).toEqual([])
  })

  test('the new table has the columns of the new run; without evolve those of the old one', async () => {
    await bench.session.run(`CREATE TABLE ${wh()}.main.t (id BIGINT, note VARCHAR)`)
    const kept = await replacing({ evolve: false })
    await bench.write(kept, { rows: ID })
    await finish(kept)
    expect(await types()).toEqual({ id: 'BIGINT', note: 'VARCHAR' })
    const free = await replacing()
    await bench.write(free, { at: 1, rows: `SELECT 'x' AS id` })
    await finish(free)
    expect(await types()).toEqual({ id: 'VARCHAR' })
  })

  test('a replace that never became complete is not forgotten when the job changes to append', async () => {
    await bench.write(await replacing(), { rows: ID })
    await expect(bench.open(loaderOf(), ID)).rejects.toMatchObject({
      code: 'STORE_MISMATCH',
      hint: expect.stringContaining('write: replace'),
    })
  })

  test('finish does nothing where the warehouse could not be attached', async () => {
    const loader = bench.create({ path: 'never-attached.duckdb', table: 't', write: 'replace' })
    await expect(finish(loader)).resolves.toBeUndefined()
  })
})
