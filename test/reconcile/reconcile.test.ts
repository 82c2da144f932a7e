import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { type ReconcileOptions, reconcile } from '../../src/reconcile/reconcile.ts'
import type { ComparisonReport } from '../../src/reconcile/report.ts'
import { changeState } from '../../src/runtime/change-state.ts'
import { lockJob } from '../../src/runtime/lock.ts'
import { runJob } from '../../src/runtime/run.ts'
import { duckdbRows } from '../harness/engine.ts'

const log = pino({ level: 'silent' })
const registry = await loadRegistry()

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-reconcile-'))
  mkdirSync(join(folder, 'data'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

interface Parts {
  readonly steps?: string
  readonly load?: string
  readonly more?: string
  readonly chunk?: string
}

const WAREHOUSE = 'wh: { type: duckdb, path: wh.duckdb, table: clicks }'
const ARCHIVE = 'arch: { type: files, path: arch, format: parquet }'

async function jobOf({ steps = '', load = WAREHOUSE, more = '', chunk = '20KB' }: Parts = {}) {
  const file = join(folder, 'clicks.yaml')
  writeFileSync(
    file,
    `version: 1
name: clicks
extract: { ads: { type: files, path: "data/*", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, at: timestamp, cost: bigint, price: "decimal(18,6)", name: varchar } }
validate: [ { id: positive, check: "cost >= 0" } ]
transform: [ ${steps} ]
load:
  ${load}
resources: { chunk: ${chunk} }
${more}`,
  )
  const job = await loadJob(file, { registry })
  return { job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' }
}

/** Rows of one file; every 50th is rejected by the rule. */
function put(name: string, from: number, to: number, change: Readonly<Record<string, unknown>> = {}): void {
  const rows = Array.from({ length: to - from }, (_, i) => {
    const id = from + i
    const at = new Date(Date.UTC(2026, 2, 1) + id * 60_000).toISOString()
    return JSON.stringify({ id, at, cost: id % 50 === 7 ? -1 : id, price: `${id}.000001`, name: `n${id}`, ...change })
  })
  writeFileSync(join(folder, 'data', name), `${rows.join('\n')}\n`)
}

async function loaded(parts: Parts = {}) {
  const run = await jobOf(parts)
  expect(await runJob(run)).toMatchObject({ exit: 0, unaccounted: 0 })
  return run
}

type Asked = Partial<Omit<ReconcileOptions, 'wishes'>> & { readonly wishes?: Partial<ReconcileOptions['wishes']> }

async function ask({ wishes, ...more }: Asked = {}) {
  const { job, stateDir } = await jobOf(current)
  const { reconcile: own } = job
  return reconcile({
    job,
    registry,
    stateDir,
    log,
    command: 'test',
    who: 'tester',
    compare: own.compare,
    heal: own.heal,
    confirm: async () => true,
    limit: 50,
    signal: new AbortController().signal,
    ...more,
    wishes: {
      by: own.by,
      column: own.column,
      widthMs: own.windowMs,
      key: own.key,
      sums: own.sum,
      settleMs: own.settleMs,
      ...wishes,
    },
  })
}

/** Parts of the job that is asked. */
let current: Parts = {}
beforeEach(() => {
  current = {}
})

async function one(asked: Asked = {}): Promise<ComparisonReport> {
  const { comparisons } = await ask(asked)
  expect(comparisons).toHaveLength(1)
  return comparisons[0] as ComparisonReport
}

/** SQL by hand on the warehouse, as `w`. */
async function byHand(...statements: readonly string[]): Promise<Record<string, unknown>[]> {
  const last = statements.at(-1) ?? ''
  return duckdbRows(last, [`ATTACH '${join(folder, 'wh.duckdb')}' AS w`, ...statements.slice(0, -1)])
}

const kinds = ({ sample }: ComparisonReport) => sample.map(({ kind, key }) => [kind, Object.values(key as object)[0]])

describe('the sources and a warehouse', () => {
  test('have no difference after a run, whatever was rejected, filtered and deduplicated', async () => {
    put('a.ndjson', 0, 800)
    put('b.ndjson', 700, 1500)
    current = {
      steps:
        '{ dedupe: { key: [id], within: 1d, time: at } }, { filter: "id % 7 <> 0" }, { derive: { stamp: "now()::timestamp" } }',
    }
    await loaded(current)
    expect(await ask()).toMatchObject({ clean: true, exit: 0 })
  })

  test.for(['time', 'key'] as const)(
    'lost, changed, doubled and foreign rows are named, in buckets by %s',
    async (by) => {
      put('a.ndjson', 0, 1000)
      await loaded()
      await byHand(
        'DELETE FROM w.clicks WHERE id = 100',
        'UPDATE w.clicks SET price = price + 0.000001 WHERE id = 200',
        'INSERT INTO w.clicks SELECT * FROM w.clicks WHERE id = 300',
        'INSERT INTO w.clicks SELECT * REPLACE (-5 AS id, NULL AS _batch) FROM w.clicks WHERE id = 400',
        'SELECT 1',
      )
      const result = await ask({ wishes: { by, key: ['id'], sums: ['price'] } })
      expect(result).toMatchObject({ clean: false, exit: 11 })
      const [report] = result.comparisons as [ComparisonReport]
      expect(report.differences).toEqual({ missing: 1, extra: 1, different: 1, doubled: 1 })
      expect(kinds(report).sort()).toEqual([
        ['different', '200'],
        ['doubled', '300'],
        ['extra', '-5'],
        ['missing', '100'],
      ])
      const changed = report.sample.find(({ kind }) => kind === 'different')
      expect(changed).toMatchObject({
        columns: ['price'],
        source: { price: '200.000001' },
        store: { price: '200.000002' },
        lane: 'data/a.ndjson',
      })
    },
  )

  test('a row lost and another doubled in one bucket do not cancel out', async () => {
    put('a.ndjson', 0, 1000)
    await loaded()
    await byHand(
      'DELETE FROM w.clicks WHERE id = 121',
      'INSERT INTO w.clicks SELECT * FROM w.clicks WHERE id = 122',
      'SELECT 1',
    )
    const report = await one()
    expect(report.differing).toMatchObject([{ left: 59, right: 59 }])
    expect(kinds(await one({ wishes: { key: ['id'] } })).sort()).toEqual([
      ['doubled', '122'],
      ['missing', '121'],
    ])
  })

  test('a row that stands there three times is two copies too many', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    const twice = 'INSERT INTO w.clicks SELECT * FROM w.clicks WHERE id = 30'
    await byHand(twice, `${twice} LIMIT 1`, 'SELECT 1')
    expect((await one()).differences).toMatchObject({ doubled: 2, missing: 0, extra: 0 })
  })

  test('NULL against 0, an empty text and the last digit of an integer beyond 2^53 are seen', async () => {
    const big = '9007199254740993'
    writeFileSync(
      join(folder, 'data', 'a.ndjson'),
      `{"id":${big},"cost":0}\n{"id":2,"at":"infinity","name":""}\n{"id":3}\n`,
    )
    await loaded()
    expect(await ask()).toMatchObject({ clean: true })
    await byHand(
      'UPDATE w.clicks SET cost = NULL WHERE cost = 0',
      `UPDATE w.clicks SET name = NULL WHERE name = ''`,
      'UPDATE w.clicks SET id = 9007199254740992 WHERE id > 3',
      'SELECT 1',
    )
    const report = await one({ wishes: { key: ['id'] } })
    expect(report.differences).toEqual({ missing: 1, extra: 1, different: 1, doubled: 0 })
    expect(report.differing.map(({ bucket }) => bucket)).toEqual(['no time'])
    expect(report.sample.find(({ kind }) => kind === 'missing')?.key).toEqual({ id: big })
  })

  test('without a key a changed row is one missing and one extra', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    await byHand('UPDATE w.clicks SET cost = 5000 WHERE id = 33', 'SELECT 1')
    expect((await one()).differences).toEqual({ missing: 1, extra: 1, different: 0, doubled: 0 })
  })

  test('counts alone do not see a changed row', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    await byHand('UPDATE w.clicks SET cost = 5000 WHERE id = 33', 'SELECT 1')
    expect(await ask({ compare: ['count'] })).toMatchObject({ clean: true })
    await byHand('DELETE FROM w.clicks WHERE id = 34', 'SELECT 1')
    expect((await one({ compare: ['count'] })).differences).toMatchObject({ missing: 2, extra: 1 })
  })

  test('more differing rows than are listed at once are found by parts of their buckets', async () => {
    put('a.ndjson', 0, 120_000, { name: 'x'.repeat(10) })
    current = { more: 'reconcile: { window: 200d, key: [id] }', chunk: '8MB' }
    await loaded(current)
    await byHand(
      'DELETE FROM w.clicks WHERE id IN (5000, 60000)',
      'UPDATE w.clicks SET cost = 1 WHERE id = 110001',
      'SELECT 1',
    )
    expect(kinds(await one()).sort()).toEqual([
      ['different', '110001'],
      ['missing', '5000'],
      ['missing', '60000'],
    ])
  }, 60_000)

  test('a merged table holds the last row of each key, in the order in which the store took the batches', async () => {
    const load = 'wh: { type: duckdb, path: wh.duckdb, table: clicks, write: merge, key: [id] }'
    current = { load }
    put('a.ndjson', 0, 400)
    await loaded({ load })
    put('b.ndjson', 200, 600, { name: 'newer' })
    await loaded({ load })
    put('c.ndjson', 300, 350, { name: 'newest', at: '2026-05-01T00:00:00Z' })
    await loaded({ load })
    expect(await ask()).toMatchObject({ clean: true })
    expect((await one({ wishes: { from: Date.UTC(2026, 3, 1) } })).rows).toEqual({ left: 49, right: 49 })
    await byHand(`UPDATE w.clicks SET name = 'n310' WHERE id = 310`, 'SELECT 1')
    const report = await one({ heal: 'all' })
    expect(report).toMatchObject({ differences: { different: 1 }, heal: { inserted: 1, removed: 1 }, clean: true })
    expect(await byHand('SELECT name FROM w.clicks WHERE id = 310')).toEqual([{ name: 'newest' }])
  })

  test('columns may be called as the parts of a digest are', async () => {
    current = {
      steps: '{ derive: { bucket: "id * 3", content: "name", batch: "cost", copy: "1", kind: "\'k\'", source: "id" } }',
    }
    put('a.ndjson', 0, 300)
    await loaded(current)
    expect(await ask()).toMatchObject({ clean: true })
    await byHand('UPDATE w.clicks SET batch = -batch WHERE id = 42', 'DELETE FROM w.clicks WHERE id = 43', 'SELECT 1')
    const report = await one({ heal: 'all', wishes: { key: ['id', 'bucket'] } })
    expect(report).toMatchObject({ differences: { different: 1, missing: 1, extra: 0 }, clean: true })
    expect(report.sample.map(({ columns }) => columns)).toContainEqual(['batch'])
  })

  test('an output of a step is compared as its store has it', async () => {
    current = {
      steps: '{ aggregate: { id: sums, by: [name], select: { total: "sum(cost)" } } }',
      load: `sums_table: { type: duckdb, input: sums, path: wh.duckdb, table: sums }`,
    }
    put('a.ndjson', 0, 300)
    await loaded(current)
    expect(await ask()).toMatchObject({ clean: true })
    await byHand(`UPDATE w.sums SET total = total + 1 WHERE name = 'n5'`, 'SELECT 1')
    expect((await one({ wishes: { key: ['name'] } })).sample).toMatchObject([{ kind: 'different', columns: ['total'] }])
  })
})

describe('what is no difference', () => {
  test('is told apart: not loaded yet, owed, left out by settle', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    put('b.ndjson', 100, 200)
    expect(await one()).toMatchObject({ clean: true, not_loaded: { lanes: 1, bytes: expect.any(Number) } })
    const now = new Date().toISOString()
    put('c.ndjson', 500, 501, { at: now })
    await loaded()
    await byHand(`DELETE FROM w.clicks WHERE "at" > now()::TIMESTAMP - INTERVAL 1 HOUR`, 'SELECT 1')
    expect(await ask({ wishes: { settleMs: 3_600_000 } })).toMatchObject({ clean: true })
    expect(await ask()).toMatchObject({ clean: false })
  })

  test('batches that wait in the spool are owed, not missing', async () => {
    const load = `${WAREHOUSE}\n  ${ARCHIVE}`
    current = { load, more: 'retry: { attempts: 1 }' }
    put('a.ndjson', 0, 100)
    await loaded(current)
    put('b.ndjson', 100, 200)
    const held = await heldOpen()
    expect(await runJob(await jobOf(current))).toMatchObject({ status: 'owed' })
    await held()
    const [warehouse, archive] = (await ask()).comparisons
    expect(warehouse).toMatchObject({ clean: true, owed: { rows: 98 }, rows: { left: 98, right: 98 } })
    expect(archive).toMatchObject({ clean: true, owed: { rows: 0 }, rows: { left: 196, right: 196 } })
    await loaded(current)
    expect((await ask()).comparisons[0]).toMatchObject({ clean: true, owed: { rows: 0 }, rows: { left: 196 } })
  })

  test('batches that the ledger does not know yet are left out, not removed', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    const ledger = readdirSync(join(folder, 'state', 'clicks', 'ledger')).map((name) => {
      const path = join(folder, 'state', 'clicks', 'ledger', name)
      return [path, readFileSync(path)] as const
    })
    put('b.ndjson', 100, 200)
    await loaded()
    for (const [path, bytes] of ledger) writeFileSync(path, bytes)
    expect(await one({ heal: 'all' })).toMatchObject({ clean: true, later: 1, rows: { left: 98, right: 98 } })
    expect(await byHand('SELECT count(*) AS n FROM w.clicks')).toEqual([{ n: '196' }])
  })

  test('ranges whose source has changed are named, never taken for extra rows', async () => {
    put('a.ndjson', 0, 100)
    put('b.ndjson', 100, 200)
    await loaded()
    const path = join(folder, 'data', 'a.ndjson')
    writeFileSync(path, readFileSync(path, 'utf8').replace('"n50"', '"x50"'))
    const result = await ask({ heal: 'all' })
    expect(result).toMatchObject({ exit: 65, comparisons: [{ differences: { extra: 0 }, clean: true }] })
    expect(result.comparisons[0]?.unreadable).toMatchObject([{ lane: 'data/a.ndjson', code: 'SOURCE_CHANGED' }])
    rmSync(path)
    expect(await ask()).toMatchObject({ exit: 65, comparisons: [{ unreadable: [{ lane: 'data/a.ndjson' }] }] })
    expect(await byHand('SELECT count(*) AS n FROM w.clicks')).toEqual([{ n: '196' }])
  })

  test('a range that was loaded anew counts once: what the table has of before is doubled', async () => {
    put('a.ndjson', 0, 100)
    const run = await loaded()
    const change = { source: 'ads', to: '0', reload: true, force: false, reason: 'test', who: 'tester' }
    await changeState({ ...run, ...change })
    await loaded()
    expect((await one()).differences).toMatchObject({ doubled: 98 })
    expect(await one({ heal: 'all' })).toMatchObject({ heal: { removed: 98, inserted: 0 }, clean: true })
  })
})

describe('two stores', () => {
  test('are compared with one another, and one is healed from the other', async () => {
    current = { load: `${WAREHOUSE}\n  ${ARCHIVE}` }
    put('a.ndjson', 0, 300)
    await loaded(current)
    expect(await one({ store: 'arch' })).toMatchObject({ left: 'arch', right: 'wh', clean: true })
    await byHand('DELETE FROM w.clicks WHERE id IN (11, 12)', 'SELECT 1')
    const numbers = () => byHand('SELECT id, _batch FROM w.clicks WHERE id BETWEEN 10 AND 13 ORDER BY id')
    const [before] = await numbers()
    expect(await one({ store: 'arch', against: 'wh', heal: 'missing' })).toMatchObject({
      differences: { missing: 2 },
      heal: { inserted: 2 },
      clean: true,
    })
    expect((await numbers()).map((row) => row['_batch'])).toEqual(Array(4).fill(before?.['_batch']))
  })

  test.for(['parquet', 'csv', 'ndjson'] as const)(
    'a folder of %s holds exactly what the warehouse holds',
    async (format) => {
      current = {
        load: `${WAREHOUSE}\n  arch: { type: files, path: arch, format: ${format}, partition: { d: "id % 2" } }`,
      }
      put('a.ndjson', 0, 300)
      await loaded(current)
      expect(await ask()).toMatchObject({ clean: true })
      expect(await ask({ store: 'arch', against: 'wh' })).toMatchObject({ clean: true })
    },
  )

  test('that cannot be compared are refused', async () => {
    current = {
      load: `${WAREHOUSE}\n  ${ARCHIVE}\n  third: { type: duckdb, path: wh.duckdb, table: third, write: merge, key: [id] }`,
    }
    put('a.ndjson', 0, 30)
    await loaded(current)
    await expect(ask({ store: 'arch' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(ask({ store: 'arch', against: 'third' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(ask({ store: 'arch', against: 'arch' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(ask({ store: 'nobody' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(ask({ source: 'nobody' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(ask({ against: 'third', wishes: { key: ['name'] } })).rejects.toMatchObject({ code: 'USAGE' })
  })
})

describe('one clear error, and nothing changed', () => {
  const everything = () =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => !name.startsWith('clicks.yaml'))
      .sort()

  async function refuses(asked: Asked, code: string): Promise<void> {
    await jobOf(current)
    const before = everything()
    await expect(ask(asked)).rejects.toMatchObject({ code, hint: expect.any(String) })
    expect(everything()).toEqual(before)
  }

  test('for a job that has never run', async () => {
    await refuses({ heal: 'missing' }, 'STATE_MISSING')
    expect(existsSync(join(folder, 'state'))).toBe(false)
  })

  test('for a range that was never loaded', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    await refuses({ wishes: { from: Date.UTC(2030, 0, 1) } }, 'USAGE')
  })

  test('for a warehouse that is gone', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    rmSync(join(folder, 'wh.duckdb'))
    await refuses({ heal: 'missing' }, 'STORE_UNAVAILABLE')
  })

  test('for a table that is gone', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    await byHand('DROP TABLE w.clicks', 'SELECT 1')
    await refuses({}, 'STORE_UNAVAILABLE')
  })

  test('for a folder that is gone', async () => {
    current = { load: ARCHIVE }
    put('a.ndjson', 0, 100)
    await loaded(current)
    rmSync(join(folder, 'arch'), { recursive: true })
    await refuses({}, 'STORE_UNAVAILABLE')
  })

  test('for a column of another type in the store', async () => {
    put('a.ndjson', 0, 100)
    await loaded()
    await byHand('ALTER TABLE w.clicks ALTER cost SET DATA TYPE DOUBLE', 'SELECT 1')
    await refuses({}, 'STORE_MISMATCH')
  })

  test('for a heal while a run holds the job; without one what can be read is compared', async () => {
    current = { load: ARCHIVE }
    put('a.ndjson', 0, 100)
    await loaded(current)
    const lock = await lockJob(join(folder, 'state', 'clicks'), { command: 'adflow run', run: 'r' })
    try {
      await expect(ask({ heal: 'missing' })).rejects.toMatchObject({ code: 'JOB_LOCKED' })
      expect(await ask()).toMatchObject({ clean: true })
    } finally {
      await lock.close()
    }
  })

  test('for a replaced table', async () => {
    current = { load: 'wh: { type: duckdb, path: wh.duckdb, table: clicks, write: replace }' }
    put('a.ndjson', 0, 100)
    await loaded(current)
    await refuses({}, 'USAGE')
  })
})

/** Another program holds the warehouse; returns how it lets go. */
async function heldOpen(): Promise<() => Promise<void>> {
  const path = join(folder, 'wh.duckdb')
  const bytes = readFileSync(path)
  rmSync(path)
  mkdirSync(path)
  return async () => {
    rmSync(path, { recursive: true })
    writeFileSync(path, bytes)
  }
}
