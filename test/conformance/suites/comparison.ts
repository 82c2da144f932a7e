/** What every loader with a `comparison` must do, on a store that it has filled itself. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ComparedSide, CompareScope, Comparison, OpenComparison } from '../../../src/core/comparison.ts'
import type { Loader } from '../../../src/core/contracts.ts'
import type { LoaderDefinition } from '../../../src/core/definitions.ts'
import { tokenNumber, tokenOf } from '../../../src/core/token.ts'
import { embeddedSide } from '../../../src/engine/compare-sql.ts'
import { DyingProcess } from '../../harness/dying-process.ts'
import { JOB, LoaderBench, newFolder, removeFolder, SOURCE } from '../../harness/loader.ts'
import type { LoaderFixture } from './loader.ts'

const BARE = `SELECT i::BIGINT AS id, CASE WHEN i % 9 <> 0 THEN TIMESTAMP '1969-12-31 22:00:00' + to_microseconds(i * 20000000) END AS "at", CASE WHEN i % 4 <> 0 THEN 'näme ' || i END AS name, (i / 7)::DECIMAL(38,18) AS price, i / 3 AS ratio, [i, NULL] AS list, i % 2 = 0 AS flag FROM range(1000) AS t(i)`
const ROWS = `SELECT *, "at"::TIMESTAMPTZ AS zoned, "at"::DATE AS day FROM (${BARE})`
const COLUMNS = [
  { name: 'id', type: 'BIGINT' },
  { name: 'at', type: 'TIMESTAMP' },
  { name: 'name', type: 'VARCHAR' },
  { name: 'price', type: 'DECIMAL(38,18)' },
  { name: 'ratio', type: 'DOUBLE' },
  { name: 'list', type: 'BIGINT[]' },
  { name: 'flag', type: 'BOOLEAN' },
  { name: 'zoned', type: 'TIMESTAMP WITH TIME ZONE' },
  { name: 'day', type: 'DATE' },
]
const part = (at: number) => `SELECT * FROM (${ROWS}) WHERE id // 250 = ${at}`
const HOUR_US = 3_600_000_000

const scopes: readonly (readonly [string, Partial<CompareScope>])[] = [
  ['by time', { bucket: { by: 'time', column: 'at', widthUs: HOUR_US } }],
  ['by zoned time', { bucket: { by: 'time', column: 'zoned', widthUs: HOUR_US } }],
  ['by day', { bucket: { by: 'time', column: 'day', widthUs: 24 * HOUR_US } }],
  ['by key', { bucket: { by: 'key', count: 64 } }],
]

export function comparisonConformance<Options>(name: string, fixture: LoaderFixture<Options>): void {
  const definition = fixture.definition as LoaderDefinition
  const { options } = fixture

  describe(`comparison of ${name}`, () => {
    let folder: string
    let bench: LoaderBench
    let loader: Loader
    beforeEach(async () => {
      folder = newFolder()
      bench = await LoaderBench.open({ definition, folder, options: [options] })
      loader = await bench.open(bench.create(options), ROWS)
      for (const at of [0, 1, 2, 3]) await bench.write(loader, { at, rows: part(at) })
    })
    afterEach(() => {
      bench.close()
      removeFolder(folder)
    })

    const comparison = () => loader.comparison as Comparison
    const opened = (): Promise<OpenComparison> => comparison().open({ engine: bench.session, columns: COLUMNS })
    const scopeOf = (more: Partial<CompareScope> = {}): CompareScope => ({
      digest: 'engine',
      columns: COLUMNS,
      key: ['id'],
      sums: ['price', 'id'],
      bucket: { by: 'key', count: 64 },
      ...more,
    })
    /** The same rows, asked by the shared builder: what a store must agree with. */
    const truth = (rows: string): ComparedSide => embeddedSide({ relation: `(${rows})`, batch: 'NULL::BIGINT' })
    const numberOf = (at: number) =>
      tokenNumber(
        tokenOf({
          job: JOB,
          source: SOURCE,
          range: { lane: 'lane', from: String(at), to: String(at + 1) },
          epoch: '0',
        }),
      )
    const sorted = async (sql: string) => {
      const rows = await bench.session.rows(`SELECT * FROM (${sql}) ORDER BY ALL`)
      return rows.map((row) => Object.fromEntries(Object.entries(row).map(([key, value]) => [key, String(value)])))
    }
    const table = (sql: string, as: string) => bench.session.run(`CREATE OR REPLACE TEMP TABLE ${as} AS ${sql}`)

    test.for(
      scopes.flatMap(([by, scope]) => (['engine', 'md5'] as const).map((digest) => [by, digest, scope] as const)),
    )('counts, sums and digests %s agree with those of the rows that were loaded (%s)', async ([, digest, more]) => {
      const scope = scopeOf({ ...more, digest })
      const { side } = await opened()
      const own = await sorted(await side.buckets(scope))
      expect(own).toEqual(await sorted(await truth(ROWS).buckets(scope)))
      expect(own.length).toBeGreaterThan(2)
      const changed = `SELECT * REPLACE (CASE WHEN id = 500 THEN price + 0.000000000000000001 ELSE price END AS price) FROM (${ROWS})`
      expect(await sorted(await truth(changed).buckets(scope))).not.toEqual(own)
    })

    test('a range of time, and batches that are left out, are left out of every answer', async () => {
      const range = { column: 'at', from: 0, to: HOUR_US }
      const { side } = await opened()
      const one = scopeOf({ range })
      const inside = `SELECT * FROM (${ROWS}) WHERE epoch_us("at") >= 0 AND epoch_us("at") < ${HOUR_US}`
      expect(await sorted(await side.buckets(one))).toEqual(await sorted(await truth(inside).buckets(scopeOf())))
      await table(`SELECT ${numberOf(1)}::BIGINT AS batch UNION ALL SELECT 5`, 'left_out')
      const two = scopeOf({ without: 'left_out' })
      const rest = `SELECT * FROM (${ROWS}) WHERE id // 250 <> 1`
      expect(await sorted(await side.buckets(two))).toEqual(await sorted(await truth(rest).buckets(scopeOf())))
      await table('SELECT range::BIGINT AS bucket, 0::BIGINT AS part FROM range(64)', 'everything')
      const entries = await sorted(await side.entries(two, 'everything', 1))
      expect(entries).toHaveLength(750)
      expect(new Set(entries.map(({ batch }) => batch))).toEqual(new Set([0, 2, 3].map((at) => String(numberOf(at)))))
    })

    test.for(scopes)('only named buckets %s are answered where some are named', async ([, more]) => {
      const scope = scopeOf(more)
      const { side } = await opened()
      const all = await sorted(await side.buckets(scope))
      const some = all.filter((_, index) => index % 2 === 0)
      const buckets = some.map(({ bucket }) => BigInt(bucket ?? 0))
      expect(await sorted(await side.buckets({ ...scope, buckets }))).toEqual(some)
      expect(await sorted(await side.buckets({ ...scope, buckets: [] }))).toEqual([])
    })

    test.for(scopes)('parts and entries %s come down to the row, with its batch', async ([, more]) => {
      const scope = scopeOf(more)
      const { side } = await opened()
      await table(`SELECT bucket FROM (${await side.buckets(scope)}) ORDER BY bucket LIMIT 2`, 'picked')
      const parts = await sorted(await side.parts(scope, 'picked', 4))
      expect(parts).toEqual(await sorted(await truth(ROWS).parts(scope, 'picked', 4)))
      expect(parts.length).toBeGreaterThan(1)
      await table(`SELECT bucket, part FROM (${await side.parts(scope, 'picked', 4)}) WHERE part = 3`, 'chosen')
      const bare = (rows: Record<string, string>[]) => rows.map(({ bucket, id, content }) => ({ bucket, id, content }))
      const entries = await sorted(await side.entries(scope, 'chosen', 4))
      expect(bare(entries)).toEqual(bare(await sorted(await truth(ROWS).entries(scope, 'chosen', 4))))
      expect(entries.length).toBeGreaterThan(0)
      await table(await side.entries(scope, 'chosen', 4), 'ids')
      const digests = `SELECT __bucket AS bucket, __id AS id, __content AS content, __batch AS batch FROM (${await side.rows(scope, 'ids')})`
      expect(await sorted(digests)).toEqual(entries)
    })

    test('being asked changes nothing', async () => {
      const before = await loader.history?.(JOB, { engine: bench.session })
      const { side, columns, batches } = await opened()
      expect(columns.map(({ name: column }) => column)).toEqual(COLUMNS.map(({ name: column }) => column))
      expect(batches).toBe(true)
      await sorted(await side.buckets(scopeOf()))
      expect(await loader.history?.(JOB, { engine: bench.session })).toEqual(before)
      expect(await bench.write(loader, { at: 3, rows: part(3) })).toMatchObject({ repeated: true })
    })

    /** The lowest id is put right: out with one row, in with another under the same key. */
    async function mending(token: string): Promise<Parameters<NonNullable<Comparison['mend']>>[0]> {
      const scope = scopeOf()
      const { side } = await opened()
      await table(`SELECT hash(7::BIGINT) AS id`, 'ids')
      await table(
        `SELECT __id AS id, __content AS content, __batch AS batch, 1::BIGINT AS n FROM (${await side.rows(scope, 'ids')})`,
        'to_remove',
      )
      await table(
        `SELECT * REPLACE ('mended' AS name), ${numberOf(0)}::BIGINT AS __batch FROM (${ROWS}) WHERE id = 7`,
        'to_insert',
      )
      return {
        job: JOB,
        source: SOURCE,
        token,
        clock: '2026-01-01T00:00:00.000Z',
        scope,
        insert: 'to_insert',
        remove: 'to_remove',
      }
    }
    const mended = `SELECT * REPLACE (CASE WHEN id = 7 THEN 'mended' ELSE name END AS name) FROM (${ROWS})`
    const expectRows = async (rows: string) => {
      const { side } = await opened()
      expect(await sorted(await side.buckets(scopeOf()))).toEqual(await sorted(await truth(rows).buckets(scopeOf())))
    }

    test('rows are mended once per token, under the batch they belong to; a store without that can restore batches', async () => {
      const { mend } = comparison()
      if (mend === undefined) {
        expect(loader.restore).toBeTypeOf('function')
        return
      }
      const work = await mending('heal-1')
      expect(await mend(work, { engine: bench.session })).toEqual({ inserted: 1, removed: 1, repeated: false })
      await expectRows(mended)
      expect(await mend(work, { engine: bench.session })).toMatchObject({ repeated: true })
      await expectRows(mended)
      expect(await loader.history?.(JOB, { engine: bench.session })).toHaveLength(4)
      expect(await loader.probe?.('heal-1', { engine: bench.session })).toMatchObject({ repeated: true })
      await expect(mend({ ...work, token: 'heal-2' }, { engine: bench.session })).rejects.toMatchObject({
        code: 'STORE_MISMATCH',
      })
      await expectRows(mended)
    })

    test('killed before any statement of a mending, it is done once when it is asked for again', async () => {
      const { mend } = comparison()
      if (mend === undefined) return
      let at = 0
      for (let whole = false; !whole; at += 1) {
        const dying = new DyingProcess(at)
        const work = await mending('heal-1')
        whole = await dying.run(() => mend(work, { engine: dying.engine(bench.session) }))
        // What the process had open goes with it.
        if (!whole) await bench.session.run('ROLLBACK').catch(() => undefined)
        await expectRows(whole ? mended : ROWS)
      }
      expect(at).toBeGreaterThan(4)
    })
  })
}
