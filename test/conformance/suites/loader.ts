/** What every loader must do. A loader's own lines are in test/conformance/loaders.test.ts. */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { LoadBatch, Loader } from '../../../src/core/contracts.ts'
import type { LoaderDefinition } from '../../../src/core/definitions.ts'
import { ident } from '../../../src/engine/sql-text.ts'
import { DyingProcess } from '../../harness/dying-process.ts'
import { JOB, LoaderBench, newFolder, removeFolder, SOURCE } from '../../harness/loader.ts'
import { type ChildOrder, childRows } from '../../harness/loader-child.ts'

/** name → engine type. */
export type Columns = Readonly<Record<string, string>>

export interface LoaderFixture<Options> {
  readonly definition: LoaderDefinition<Options>
  /** File name in src/loaders. */
  readonly type: string
  /** Options as in a job file, with a target in the test's folder; `id` is a key of the rows. */
  readonly options: Readonly<Record<string, unknown>>
  /** The same store, another target. */
  readonly other: Readonly<Record<string, unknown>>
  /** SELECT of what the target holds, with these columns and types, read the way docs tell people to read it. */
  rows(target: Readonly<Record<string, unknown>>, folder: string, columns: Columns): string | Promise<string>
  /** Makes what the loader sends to a server a step of the process that dies; returns how to undo that. */
  stepsOf?(dying: DyingProcess): () => void
  /** Column of EXACT → values of it that the store has no place for: its page says so, and it must refuse the whole batch. */
  readonly refused?: Readonly<Record<string, readonly string[]>>
  /** Of its history it gives what is asked for and no more: to the batch, or nothing where there is nothing. */
  readonly bounded?: 'batches' | 'nothing'
  /** What these options need to have a place of the test's own, where the folder of the test does not give one. */
  place?(folder: string, options: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>
}

const ROWS = `SELECT i::BIGINT AS id, 'name ' || i AS name, ['a', 'b', 'c'][1 + i % 3] AS kind FROM range(1000) AS t(i)`
const COLUMNS: Columns = { id: 'BIGINT', name: 'VARCHAR', kind: 'VARCHAR' }
const MORE_ROWS = ROWS.replace('range(1000)', 'range(1000, 1500)')
const KILLS = process.env['ADFLOW_TEST_LONG'] === '1' ? 100 : 2
const CHILD_BATCHES = Math.max(60, KILLS * 6)
const CHILD = fileURLToPath(new URL('../../harness/loader-child.ts', import.meta.url))

/** Values that a careless encoding changes. `id` is a key. */
const EXACT: Readonly<Record<string, readonly [type: string, values: readonly string[]]>> = {
  big: ['BIGINT', ['9007199254740993', '-9223372036854775808', '9223372036854775807']],
  huge: ['HUGEINT', ['99999999999999999999999999999999999999', '-1', '9007199254740993']],
  money: ['DECIMAL(38,18)', ["'12345678901234567890.123456789012345678'", "'-0.000000000000000001'", '0']],
  price: ['DECIMAL(9,2)', ["'1234567.89'", "'-0.01'", "'0.10'"]],
  at: ['TIMESTAMP', ["'2026-07-27 23:59:59.999999'", "'1969-12-31 23:59:59.999999'", "'1600-01-01'"]],
  zoned: [
    'TIMESTAMP WITH TIME ZONE',
    ["'2026-01-01 00:00:00.000001+08'", "'1900-01-01 00:00:00+00'", "'2038-01-19 03:14:08Z'"],
  ],
  day: ['DATE', ["'1901-02-03'", "'1969-12-31'", "'9999-12-31'"]],
  ratio: ['DOUBLE', ["'nan'", "'-inf'", '5e-324', "'-0.0'", '0.1', '1.7976931348623157e308', "'inf'"]],
  flag: ['BOOLEAN', ['true', 'false']],
  text: [
    'VARCHAR',
    [
      "''",
      "'NULL'",
      "' '",
      `'"'`,
      `'a"b,c;d'`,
      "'x\ny'",
      "'x\r\ny'",
      "'\r'",
      "'\t'",
      "'\\'",
      "'\\N'",
      "'😀👩‍👩‍👧‍👦'",
      "'é'",
      "'e\u0301'",
      "'\uFEFFbom'",
      "'עברית'",
      "'#'",
    ],
  ],
  device: [
    'STRUCT(os VARCHAR, build BIGINT, tags VARCHAR[])',
    [
      "{os: '', build: 9007199254740993, tags: ['a, b', '', NULL, 'NULL']}",
      '{os: NULL, build: NULL, tags: NULL}',
      "{os: 'x''y', build: 0, tags: []}",
    ],
  ],
  list: ['BIGINT[]', ['[9007199254740993, NULL]', '[]', '[NULL]']],
  steps: [
    'STRUCT("at" TIMESTAMP, price DECIMAL(38,18))[]',
    ["[{'at': '1969-12-31 23:59:59.999999', price: '0.123456789012345678'}, NULL]"],
  ],
}

/** All of Unicode but NUL and the surrogates, 1024 code points to a row. */
const UNICODE = `SELECT block::BIGINT AS id, string_agg(chr(c::INTEGER), '' ORDER BY c) AS name FROM (SELECT c, c // 1024 AS block FROM range(1, 1114112) AS t(c) WHERE c NOT BETWEEN 55296 AND 57343) GROUP BY block`

export function loaderConformance<Options>(name: string, fixture: LoaderFixture<Options>): void {
  const definition = fixture.definition as LoaderDefinition

  describe(`loader ${name}`, () => {
    let folder: string
    let bench: LoaderBench
    let options: Readonly<Record<string, unknown>>
    let other: Readonly<Record<string, unknown>>
    const openBench = () => LoaderBench.open({ definition, folder, options: [options, other] })
    beforeEach(async () => {
      folder = newFolder()
      options = { ...fixture.options, ...fixture.place?.(folder, fixture.options) }
      other = { ...fixture.other, ...fixture.place?.(folder, fixture.other) }
      bench = await openBench()
    })
    afterEach(async () => {
      await bench.closeLoaders()
      bench.close()
      removeFolder(folder)
    })

    const opened = (own = options, id = 'store', rows = ROWS) => bench.open(bench.create(own, id), rows)
    const held = (columns: Columns = COLUMNS, target = options) => fixture.rows(target, folder, columns)
    const expectHeld = async (expected: string, columns: Columns = COLUMNS, target = options) =>
      expect(await bench.differences(expected, await held(columns, target))).toEqual({ missing: 0, surplus: 0 })
    const history = (loader: Loader, job = JOB) => loader.history?.(job, { engine: bench.session })
    const probe = (loader: Loader, token: string) => loader.probe?.(token, { engine: bench.session })

    test('says what it is, describes every option, and its example is valid', () => {
      expect(definition.summary).toMatch(/\.$/)
      expect(undescribed(z.toJSONSchema(definition.options, { io: 'input' }))).toEqual([])
      expect(definition.options.safeParse(definition.example).error).toBeUndefined()
    })

    test('names its data set by the rules of OpenLineage, the same each time', () => {
      expect(bench.create(options).dataset()).toEqual(bench.create(options, 'renamed').dataset())
      const { namespace, name: called } = bench.create(options).dataset()
      expect(`${namespace}/${called}`).toContain(basename(folder))
    })

    test.for([
      ['a table', false],
      ['SQL still to be evaluated', true],
    ] as const)('a batch that is %s is there, row for row', async ([, lazy]) => {
      const receipt = await bench.write(await opened(), { rows: ROWS, lazy })
      expect(receipt).toMatchObject({ rows: 1000, repeated: false })
      expect(receipt.outputs.length).toBeGreaterThan(0)
      await expectHeld(ROWS)
    })

    test('the same token again changes nothing and says so', async () => {
      const loader = await opened()
      const first = await bench.write(loader, { rows: ROWS })
      expect(await bench.write(loader, { rows: ROWS })).toEqual({ ...first, repeated: true })
      expect(await bench.write(await opened(), { rows: ROWS })).toEqual({ ...first, repeated: true })
      await expectHeld(ROWS)
    })

    test('the same token with another digest is an error and changes nothing', async () => {
      const loader = await opened()
      await bench.write(loader, { rows: ROWS })
      await expect(bench.write(loader, { rows: MORE_ROWS, digest: 'sha256:other' })).rejects.toMatchObject({
        code: 'STORE_MISMATCH',
        hint: expect.any(String),
      })
      await expectHeld(ROWS)
    })

    test('a process started later knows the batches of the one before', async () => {
      await bench.write(await opened(), { rows: ROWS })
      bench.close()
      bench = await openBench()
      expect(await bench.write(await opened(), { rows: ROWS })).toMatchObject({ rows: 1000, repeated: true })
      await expectHeld(ROWS)
    })

    test('opening twice is harmless', async () => {
      const loader = await opened()
      await bench.write(loader, { rows: ROWS })
      await bench.open(loader, ROWS)
      await bench.write(loader, { at: 1, rows: MORE_ROWS })
      await expectHeld(`${ROWS} UNION ALL ${MORE_ROWS}`)
    })

    test('probe and history tell the truth', async () => {
      const loader = await opened()
      const { clock, digest, range, token } = await bench.batch({ rows: ROWS })
      expect(await probe(loader, token)).toBeUndefined()
      expect(await history(loader)).toEqual([])
      await bench.write(loader, { rows: ROWS })
      await bench.write(loader, { at: 1, rows: MORE_ROWS, lane: 'a lane; with "quotes\' and 😀' })
      expect(await probe(loader, token)).toMatchObject({ rows: 1000, repeated: true })
      expect(await probe(loader, token.replace(/^./, 'x'))).toBeUndefined()
      const remembered = await history(loader)
      expect(remembered).toHaveLength(2)
      const found = remembered?.find((record) => record.token === token)
      expect(found).toMatchObject({ token, source: SOURCE, range, digest, rows: 1000 })
      // A store that keeps the clock keeps it exactly: a range that is planned again repeats with it.
      expect([clock, undefined]).toContain(found?.clock)
      expect(remembered?.map(({ range }) => range.lane)).toContain('a lane; with "quotes\' and 😀')
      expect(await history(loader, 'another job')).toEqual([])
    })

    if (fixture.bounded !== undefined)
      test('asked from where lanes stand on, it tells of all that is there, and of nothing else where it says so', async () => {
        // Longer than what an index takes as it is.
        const lanes = ['a', `b; "'\\ 😀`, `${'long/'.repeat(60)}c`, `${'long/'.repeat(60)}d`]
        const loader = await opened()
        const none = { rows: `${ROWS} LIMIT 0`, empty: true } as const
        for (const lane of lanes) for (const at of [9, 10]) await bench.write(loader, { ...none, at, lane })
        await bench.write(await opened(options, 'another'), { ...none, at: 12, lane: 'a' })
        const told = async (from: readonly (string | undefined)[], teller = loader) => {
          const since = (_: string, lane: string) => from[lanes.indexOf(lane)]
          const records = await teller.history?.(JOB, { engine: bench.session, since })
          return records?.map(({ range }) => `${lanes.indexOf(range.lane)} ${range.from}`).toSorted()
        }
        const all = await told(['0', '0', '0', '0'])
        expect(all).toEqual(lanes.flatMap((_, lane) => ['10', '9'].map((at) => `${lane} ${at}`)))
        const behind = ['1 10', '2 10', '2 9']
        for (const teller of [loader, await opened()]) {
          const some = await told(['11', '10', '9', undefined], teller)
          if (fixture.bounded === 'batches') expect(some).toEqual(behind)
          else expect(some).toEqual(expect.arrayContaining(behind))
        }
        expect(await told(['11', '11', '11', undefined])).toEqual([])
      })

    test('tells what it has of batches, brings back one that is gone, and says which rows differ', async () => {
      const loader = await opened()
      if (loader.holdings === undefined || loader.restore === undefined || loader.compare === undefined) return
      const never = new AbortController().signal
      const [first, second] = [await bench.batch({ rows: ROWS }), await bench.batch({ at: 1, rows: MORE_ROWS })]
      const holding = async (token: string) => (await loader.holdings?.([token], { engine: bench.session }))?.get(token)
      const differing = async (batch: LoadBatch) => {
        const found = await loader.compare?.(batch, { scratch: join(folder, 'spill') })
        const [row] = await bench.session.rows(
          `SELECT (${found?.same}) AS same, (SELECT count(*) FROM (${found?.missing})) AS missing, (SELECT count(*) FROM (${found?.extra})) AS extra`,
        )
        expect(row?.['same']).toBe(Number(row?.['missing']) + Number(row?.['extra']) === 0)
        return [Number(row?.['missing']), Number(row?.['extra'])]
      }
      expect(await holding(first.token)).toMatchObject({ remembered: false })
      await loader.write(first, { signal: never })
      await loader.write(second, { signal: never })
      expect(await holding(first.token)).toMatchObject({ remembered: true })
      expect([1000, undefined]).toContain((await holding(first.token))?.rows)
      expect(await differing(first)).toEqual([0, 0])
      const changed = await bench.batch({
        rows: ROWS.replace("'name ' || i", "'name ' || CASE i WHEN 7 THEN 8 ELSE i END"),
      })
      expect(await differing(changed)).toEqual([1, 1])
      // What is there already comes back as it was: nothing is doubled.
      expect(await loader.restore(first, { signal: never, newer: [second.token] })).toMatchObject({ rows: 1000 })
      await expectHeld(`${ROWS} UNION ALL ${MORE_ROWS}`)
      const third = await bench.batch({ at: 10, rows: childRows(10) })
      expect(await loader.restore(third, { signal: never, newer: [] })).toMatchObject({ rows: 200, repeated: false })
      expect(await holding(third.token)).toMatchObject({ remembered: true })
      expect(await loader.write(third, { signal: never })).toMatchObject({ rows: 200, repeated: true })
    })

    test('killed before any durable step of a restoration, the batch is there exactly once when it is restored again', async () => {
      const never = new AbortController().signal
      if ((await opened()).restore === undefined) return
      let at = 0
      for (let whole = false; !whole; at += 1) {
        const doomed = await opened()
        const session = await bench.connect()
        await doomed.write(await bench.batch({ at, rows: childRows(at) }), { signal: never })
        const dying = new DyingProcess(at)
        const batch = dying.batch(await bench.batch({ at, rows: childRows(at), session }))
        const undo = fixture.stepsOf?.(dying)
        whole = await dying
          .run(async () => doomed.restore?.(batch, { signal: never, newer: [] }))
          .finally(() => undo?.())
        session.close()
        const heir = await opened()
        const again = await bench.batch({ at, rows: childRows(at) })
        expect(await heir.restore?.(again, { signal: never, newer: [] })).toMatchObject({ rows: 200 })
        await Promise.all([doomed.close(), heir.close()])
      }
      expect(at).toBeGreaterThan(3)
      await expectHeld(Array.from({ length: at }, (_, index) => childRows(index)).join(' UNION ALL '))
    }, 60_000)

    test('a batch without rows is remembered, whether it is known beforehand that there are none or not', async () => {
      const loader = await opened()
      const none = { rows: `${ROWS} LIMIT 0` }
      const known = { ...none, empty: true } as const
      expect(await bench.write(loader, none)).toMatchObject({ rows: 0, repeated: false })
      expect(await bench.write(loader, { ...known, at: 1 })).toMatchObject({ rows: 0, repeated: false })
      for (const at of [0, 1])
        for (const again of [none, known])
          expect(await bench.write(loader, { ...again, at })).toMatchObject({ rows: 0, repeated: true })
      expect(await history(loader)).toHaveLength(2)
      await bench.write(loader, { at: 2, rows: ROWS })
      expect(await bench.write(loader, { ...known, at: 2 })).toMatchObject({ rows: 1000, repeated: true })
      const otherBytes = bench.write(loader, { ...known, at: 1, digest: 'sha256:other' })
      await expect(otherBytes).rejects.toMatchObject({ code: 'STORE_MISMATCH' })
      await expectHeld(ROWS)
    })

    test('a batch under a signal that is aborted is written whole or not at all, and can be written again', async () => {
      const loader = await opened()
      const settled = await loader.write(await bench.batch({ rows: ROWS }), { signal: AbortSignal.abort() }).then(
        () => true,
        () => false,
      )
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 1000, repeated: settled })
      await expectHeld(ROWS)
    })

    test('two targets in one store keep their tokens apart', async () => {
      const [one, two] = [await opened(options, 'one'), await opened(other, 'two')]
      await bench.write(one, { rows: ROWS })
      expect(await history(two)).toEqual([])
      expect(await bench.write(two, { rows: ROWS })).toMatchObject({ repeated: false })
      await expectHeld(ROWS)
      await expectHeld(ROWS, COLUMNS, other)
    })

    test('two loaders on one target share its tokens, so that nothing is doubled, and keep their histories apart', async () => {
      const [one, two] = [await opened(options, 'one'), await opened(options, 'two')]
      await bench.write(one, { rows: ROWS })
      expect(await bench.write(two, { rows: ROWS })).toMatchObject({ rows: 1000, repeated: true })
      await bench.write(two, { at: 1, rows: MORE_ROWS })
      await expectHeld(`${ROWS} UNION ALL ${MORE_ROWS}`)
      expect((await history(one))?.map(({ range }) => range.from)).toEqual(['0'])
      expect((await history(two))?.map(({ range }) => range.from)).toEqual(['1'])
    })

    test('batches written at the same time are all there', async () => {
      const loader = await opened()
      const sessions = await Promise.all([0, 1, 2].map(() => bench.connect()))
      const batches = await Promise.all(
        sessions.map((session, at) => bench.batch({ at, lane: `lane ${at}`, rows: childRows(at), session })),
      )
      const { signal } = new AbortController()
      await Promise.all(batches.map((batch) => loader.write(batch, { signal })))
      for (const session of sessions) session.close()
      await expectHeld([0, 1, 2].map((at) => childRows(at)).join(' UNION ALL '))
    })

    test('every value is kept exactly', async () => {
      const types = Object.fromEntries(Object.entries(EXACT).map(([column, [type]]) => [column, type]))
      const items = Object.entries(EXACT).map(([column, [type, values]]) => {
        const held = values.filter((value) => fixture.refused?.[column]?.includes(value) !== true)
        const list = held.map((value) => `CAST(${value} AS ${type})`).join(', ')
        return `list_extract([${list}], id) AS ${ident(column)}`
      })
      // The values of a column stand one below the other, and NULL below the last.
      const rows = `SELECT id, ${items.join(', ')} FROM (SELECT i AS id FROM range(1, 25) AS t(i))`
      await bench.write(await opened(options, 'store', rows), { rows })
      const actual = await held({ id: 'BIGINT', ...types })
      const changed: string[] = []
      for (const column of Object.keys(EXACT)) {
        // As text too: 0.0 equals -0.0.
        const one = (sql: string) => `SELECT id, ${ident(column)}, CAST(${ident(column)} AS VARCHAR) FROM (${sql})`
        const { missing, surplus } = await bench.differences(one(rows), one(actual))
        if (missing + surplus > 0) changed.push(column)
      }
      expect(changed).toEqual([])
    })

    test('a value that it cannot hold is refused with its whole batch, and never changed', async () => {
      for (const [column, values] of Object.entries(fixture.refused ?? {}))
        for (const value of values) {
          const type = EXACT[column]?.[0]
          const rows = `SELECT 1::BIGINT AS id, CAST(${value} AS ${type}) AS ${ident(column)}`
          const loader = await opened(options, 'store', rows)
          await expect(bench.write(loader, { rows }), `${column} ${value}`).rejects.toMatchObject({
            code: 'STORE_MISMATCH',
            message: expect.stringContaining(column),
            hint: expect.any(String),
          })
          expect(await history(loader)).toEqual([])
          const { surplus } = await bench.differences('SELECT 1::BIGINT LIMIT 0', await held({ id: 'BIGINT' }))
          expect(surplus, `${column} ${value}`).toBe(0)
        }
    })

    test('every character of Unicode comes through', async () => {
      await bench.write(await opened(options, 'store', UNICODE), { rows: UNICODE })
      await expectHeld(UNICODE, { id: 'BIGINT', name: 'VARCHAR' })
    })

    test('a column that comes later is NULL in older rows, one that stays away is NULL in newer ones', async () => {
      const grown = `SELECT id, name, id * 2 AS twice FROM (${MORE_ROWS})`
      const loader = await opened()
      await bench.write(loader, { rows: ROWS })
      await bench.open(loader, grown)
      await bench.write(loader, { at: 1, rows: grown })
      await expectHeld(
        `SELECT id, name, kind, NULL::BIGINT AS twice FROM (${ROWS}) UNION ALL SELECT id, name, NULL, twice FROM (${grown})`,
        { ...COLUMNS, twice: 'BIGINT' },
      )
    })

    test('killed before any of its durable steps, a batch is there exactly once when it is written again', async () => {
      let at = 0
      for (let whole = false; !whole; at += 1) {
        const doomed = await opened()
        const session = await bench.connect()
        const spec = { at, rows: childRows(at), session }
        const dying = new DyingProcess(at)
        const batch = dying.batch(await bench.batch(spec))
        const undo = fixture.stepsOf?.(dying)
        whole = await dying.run(() => doomed.write(batch, { signal: new AbortController().signal })).finally(undo)
        session.close()
        const heir = await opened()
        const landed = await probe(heir, batch.token)
        expect(await bench.write(heir, { at, rows: childRows(at) })).toMatchObject({
          rows: 200,
          repeated: landed !== undefined,
        })
        await Promise.all([doomed.close(), heir.close()])
      }
      expect(at).toBeGreaterThan(3)
      await expectHeld(Array.from({ length: at }, (_, index) => childRows(index)).join(' UNION ALL '))
      expect(await history(await opened())).toHaveLength(at)
    }, 60_000)

    const seed = randomInt(1_000_000_000)
    test(
      `killed ${KILLS} times at random instants, all batches are there exactly once (seed ${seed})`,
      async () => {
        bench.close()
        let next = 0
        let acknowledged = 0
        for (let kill = 0; kill <= KILLS; kill += 1) {
          // A process that starts again repeats what it is not sure of.
          const from = Math.max(0, next - 3)
          const life =
            kill === KILLS ? undefined : { batches: (seed >> (kill % 16)) % 8, delayMs: (seed >> (kill % 20)) % 23 }
          const done = await childWrites({ type: fixture.type, folder, options, from, to: CHILD_BATCHES }, life)
          if (done !== undefined) acknowledged = Math.max(acknowledged, done)
          next = done === undefined ? next : Math.max(next, done + 1)
        }
        bench = await openBench()
        expect(acknowledged).toBe(CHILD_BATCHES - 1)
        await expectHeld(Array.from({ length: CHILD_BATCHES }, (_, at) => childRows(at)).join(' UNION ALL '))
      },
      KILLS * 10_000,
    )
  })
}

/** Starts a writer and kills it a moment after it has acknowledged so many batches. Returns the last acknowledged one. */
async function childWrites(
  order: ChildOrder,
  life: { readonly batches: number; readonly delayMs: number } | undefined,
): Promise<number | undefined> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(order)], { stdio: ['ignore', 'pipe', 'pipe'] })
  let last: number | undefined
  let seen = 0
  let errors = ''
  child.stderr.on('data', (data) => {
    errors += String(data)
  })
  const closed = new Promise<NodeJS.Signals | number | null>((resolve) => {
    child.on('close', (code, signal) => resolve(signal ?? code))
  })
  for await (const line of createInterface({ input: child.stdout })) {
    last = Number(line)
    seen += 1
    if (life !== undefined && seen === life.batches + 1) setTimeout(() => child.kill('SIGKILL'), life.delayMs)
  }
  const ended = await closed
  if (ended !== 'SIGKILL' && ended !== 0) throw new Error(`the writer ended with ${ended}: ${errors}`)
  return last
}

function undescribed(schema: unknown, path = ''): string[] {
  if (Array.isArray(schema)) return schema.flatMap((part, index) => undescribed(part, `${path}/${index}`))
  if (typeof schema !== 'object' || schema === null) return []
  return Object.entries(schema).flatMap(([key, value]) => {
    if (key !== 'properties') return undescribed(value, `${path}/${key}`)
    return Object.entries(value as Record<string, { description?: string }>).flatMap(([name, option]) => [
      ...(option.description === undefined ? [`${path}/${name}`] : []),
      ...undescribed(option, `${path}/${name}`),
    ])
  })
}
