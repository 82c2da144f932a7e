import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { type BackfillReport, cancelBackfill, resumeBackfill, startBackfill } from '../../src/reconcile/backfill.ts'
import type { Selection } from '../../src/reconcile/backfill-plan.ts'
import { backfillDetail, backfillStatuses } from '../../src/reconcile/backfill-status.ts'
import { openBrowser } from '../../src/runtime/browse.ts'
import { changeState } from '../../src/runtime/change-state.ts'
import { runJob } from '../../src/runtime/run.ts'
import { changeDatabase, duckdbRows } from '../harness/engine.ts'

const log = pino({ level: 'silent' })
const registry = await loadRegistry()

let folder: string
let yaml: string

const JOB = `version: 1
name: clicks
extract: { ads: { type: files, path: "data/*.ndjson", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, at: timestamp, cost: bigint } }
validate: [ { id: positive, check: "cost >= 0" } ]
transform:
  - filter: "id % 7 <> 0"
  - derive: { spend: "cost * 2", stamp: "now()::timestamp" }
load:
  wh: { type: duckdb, path: wh.duckdb, table: clicks }
  archive: { type: files, format: parquet, path: archive }
resources: { chunk: 8KB }
`
const DEDUPE = `transform:
  - dedupe: { key: [id], within: 1d, time: at }`

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-backfill-'))
  mkdirSync(join(folder, 'data'))
  yaml = JOB
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** Every 11th is negative, every 13th has the id of the one before. */
function put(name: string, from: number, to: number, modified = '2026-03-02T12:00:00Z'): void {
  const lines = Array.from({ length: to - from }, (_, i) => i + from).map((i) =>
    JSON.stringify({ id: i % 13 === 5 ? i - 1 : i, at: '2026-03-01T10:00:00Z', cost: i % 11 === 2 ? -1 : i }),
  )
  writeFileSync(join(folder, 'data', name), `${lines.join('\n')}\n`)
  touch(name, modified)
}

function touch(name: string, modified: string): void {
  utimesSync(join(folder, 'data', name), new Date(modified), new Date(modified))
}

async function options() {
  const file = join(folder, 'clicks.yaml')
  writeFileSync(file, yaml)
  const job = await loadJob(file, { registry })
  const drain = new AbortController().signal
  return { job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0', who: 'me', drain }
}

async function run(modified?: { from?: number; to?: number }) {
  const summary = await runJob({ ...(await options()), ...(modified === undefined ? {} : { modified }) })
  expect(summary).toMatchObject({ exit: 0, unaccounted: 0 })
  return summary
}

async function backfill(selection: Partial<Selection> = { missing: true }, dryRun = false): Promise<BackfillReport> {
  return startBackfill({ ...(await options()), selection: { missing: false, ...selection }, recreate: false, dryRun })
}

/** Rows of both stores, without the number of their batch. */
async function stored() {
  const shown = `SELECT to_json(c)::VARCHAR AS row FROM`
  const wh = await duckdbRows(`${shown} (SELECT * EXCLUDE (_batch) FROM w.clicks) c ORDER BY 1`, [
    `ATTACH '${join(folder, 'wh.duckdb')}' AS w (READ_ONLY)`,
  ])
  const archive = await duckdbRows(`${shown} (SELECT * FROM read_parquet('${folder}/archive/*.parquet')) c ORDER BY 1`)
  return { wh: wh.map((row) => row['row']), archive: archive.map((row) => row['row']) }
}

const warehouse = (sql: string) => changeDatabase(join(folder, 'wh.duckdb'), sql)
const checkpoint = () =>
  readdirSync(join(folder, 'state', 'clicks'))
    .filter((name) => name.startsWith('checkpoint.'))
    .map((name) => readFileSync(join(folder, 'state', 'clicks', name), 'utf8'))

describe('backfill --missing', () => {
  test('finds nothing where nothing is missing, and changes nothing', async () => {
    put('a.ndjson', 1, 700)
    await run()
    const [before, slots] = [await stored(), checkpoint()]
    expect(await backfill()).toMatchObject({ status: 'nothing', exit: 0, backfill: null })
    expect(await stored()).toEqual(before)
    expect(checkpoint()).toEqual(slots)
  })

  test('brings exactly the lost batches back to exactly the stores that lost them', async () => {
    put('a.ndjson', 1, 700)
    put('b.ndjson', 1000, 1500)
    await run()
    const [before, slots] = [await stored(), checkpoint()]
    // Rows deleted, entry deleted, both deleted, one row deleted; and a file of the archive.
    const batches = await duckdbRows('SELECT token, "rows" FROM w._adflow_batches ORDER BY clock, token', [
      `ATTACH '${join(folder, 'wh.duckdb')}' AS w (READ_ONLY)`,
    ])
    const number = (at: number) =>
      `TRY_CAST('0x' || '${String(batches[at]?.['token']).slice(0, 16)}' AS UBIGINT)::BIT::BIGINT`
    await warehouse(`DELETE FROM clicks WHERE _batch = ${number(0)}`)
    await warehouse(`DELETE FROM _adflow_batches WHERE token = '${batches[1]?.['token']}'`)
    await warehouse(`DELETE FROM clicks WHERE _batch = ${number(2)}`)
    await warehouse(`DELETE FROM _adflow_batches WHERE token = '${batches[2]?.['token']}'`)
    await warehouse(`DELETE FROM clicks WHERE id = (SELECT min(id) FROM clicks WHERE _batch = ${number(3)})`)
    const [file = ''] = readdirSync(join(folder, 'archive')).filter((name) => name.endsWith('.parquet'))
    rmSync(join(folder, 'archive', file))
    const dry = await backfill({ missing: true }, true)
    expect(dry).toMatchObject({ status: 'planned', planned: { first: 0, stores: { wh: 4, archive: 1 } } })
    const report = await backfill()
    expect(report).toMatchObject({ status: 'done', exit: 0, done: { open: 0, left: [] } })
    expect(report.done?.stores['wh']?.batches).toBe(4)
    expect(report.done?.stores['archive']?.batches).toBe(1)
    expect(await stored()).toEqual(before)
    expect(checkpoint()).toEqual(slots)
    expect(await backfill()).toMatchObject({ status: 'nothing' })
    expect(await run()).toMatchObject({ read: 0 })
    expect(await stored()).toEqual(before)
  })

  test('fills a store that came later, with what the job gave then', async () => {
    put('a.ndjson', 1, 700)
    await run()
    yaml = `${JOB.replace('cost * 2', 'cost * 3').replace('resources:', '  later: { type: duckdb, path: later.duckdb, table: clicks }\nresources:')}`
    const report = await backfill()
    expect(report).toMatchObject({ status: 'done', exit: 0 })
    const rows = await duckdbRows('SELECT count(*) AS n, sum(spend) AS s, sum(cost) AS c FROM w.clicks', [
      `ATTACH '${join(folder, 'later.duckdb')}' AS w (READ_ONLY)`,
    ])
    expect(Number(rows[0]?.['s'])).toBe(2 * Number(rows[0]?.['c']))
    expect(String(rows[0]?.['n'])).toBe(String((await stored()).wh.length))
    // From now on its books stand beside those of the others.
    const { job, stateDir } = await options()
    const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
    const books = await browser.session.rows('SELECT store, loaded, balance FROM conservation ORDER BY store')
    browser.close()
    expect(books.map(({ store }) => store)).toEqual(['archive', 'later', 'wh'])
    expect(new Set(books.map(({ loaded, balance }) => `${loaded} ${balance}`)).size).toBe(1)
  })

  test('decides as the steps with memory had decided, also where they have forgotten since', async () => {
    yaml = JOB.replace('transform:', DEDUPE)
    put('a.ndjson', 1, 700)
    put('b.ndjson', 600, 1500)
    await run()
    const before = await stored()
    await warehouse('DELETE FROM clicks WHERE id % 50 < 5')
    expect(await backfill()).toMatchObject({ status: 'done', exit: 0 })
    expect(await stored()).toEqual(before)
    // The memory of the job is lost: everything before is repeated from the first batch on.
    rmSync(join(folder, 'state', 'clicks', 'state.duckdb'))
    await warehouse('DELETE FROM clicks WHERE id > 1400')
    expect(await backfill()).toMatchObject({ status: 'done', exit: 0 })
    expect(await stored()).toEqual(before)
  })

  test('leaves what later batches have merged in the place of lost rows', async () => {
    yaml = JOB.replace('table: clicks }', 'table: clicks, write: merge, key: [id] }').replace(
      ', stamp: "now()::timestamp"',
      '',
    )
    put('a.ndjson', 1, 300)
    await run()
    put('b.ndjson', 100, 200)
    writeFileSync(
      join(folder, 'data', 'b.ndjson'),
      readFileSync(join(folder, 'data', 'b.ndjson'), 'utf8').replaceAll('"cost":1', '"cost":9'),
    )
    await run()
    const before = await stored()
    const [first] = await duckdbRows(
      "SELECT token FROM w._adflow_batches WHERE lane LIKE '%a.ndjson' ORDER BY from_position::INT LIMIT 1",
      [`ATTACH '${join(folder, 'wh.duckdb')}' AS w (READ_ONLY)`],
    )
    await warehouse(
      `DELETE FROM clicks WHERE _batch = TRY_CAST('0x' || '${String(first?.['token']).slice(0, 16)}' AS UBIGINT)::BIT::BIGINT`,
    )
    await warehouse(`DELETE FROM _adflow_batches WHERE token = '${first?.['token']}'`)
    expect(await backfill()).toMatchObject({ status: 'done', exit: 0 })
    expect(await stored()).toEqual(before)
  })

  test('says what cannot be brought back, and leaves the rest to be resumed', async () => {
    put('a.ndjson', 1, 700)
    put('b.ndjson', 1000, 1500)
    await run()
    const before = await stored()
    const bytes = readFileSync(join(folder, 'data', 'a.ndjson'))
    await warehouse('DELETE FROM clicks')
    rmSync(join(folder, 'data', 'a.ndjson'))
    const report = await backfill()
    expect(report).toMatchObject({ status: 'incomplete', exit: 65 })
    expect(report.done?.left[0]).toMatchObject({ code: 'SOURCE_CHANGED' })
    expect((await stored()).wh.length).toBeGreaterThan(0)
    writeFileSync(join(folder, 'data', 'a.ndjson'), bytes)
    const resumed = await resumeBackfill({ ...(await options()), id: 'last' })
    expect(resumed).toMatchObject({ status: 'done', exit: 0, done: { open: 0 } })
    expect(await stored()).toEqual(before)
  })

  test('says so where the job has never run, the state is another one, or no lane has that name', async () => {
    put('a.ndjson', 1, 300)
    await expect(backfill()).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('not run yet') })
    await run()
    await expect(backfill({ lanes: ['nope*'] })).rejects.toMatchObject({
      code: 'USAGE',
      hint: expect.stringContaining('data/a.ndjson'),
    })
    const elsewhere = { ...(await options()), stateDir: join(folder, 'other'), recreate: false, dryRun: false }
    await expect(startBackfill({ ...elsewhere, selection: { missing: false, lanes: ['*'] } })).rejects.toMatchObject({
      code: 'STATE_MISSING',
    })
  })

  test('refuses a store that is gone, unless it is to be made anew', async () => {
    put('a.ndjson', 1, 700)
    await run()
    const before = await stored()
    rmSync(join(folder, 'wh.duckdb'))
    await expect(backfill()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    const again = { ...(await options()), selection: { missing: true }, recreate: true, dryRun: false }
    expect(await startBackfill(again)).toMatchObject({ status: 'done', exit: 0 })
    expect(await stored()).toEqual(before)
  })
})

describe('backfill --from --to', () => {
  const day = { from: Date.parse('2026-03-01'), to: Date.parse('2026-03-02') }

  test('reads files of that time that no run has begun, and what runs have passed over', async () => {
    put('a.ndjson', 1, 700, '2026-03-01T12:00:00Z')
    put('b.ndjson', 1000, 1500, '2026-03-01T13:00:00Z')
    put('c.ndjson', 2000, 2500, '2026-03-05T13:00:00Z')
    await run({ from: Date.parse('2026-03-01T12:30:00Z') })
    const slots = checkpoint()
    const dry = await backfill({ modified: day }, true)
    expect(dry.planned.first).toBeGreaterThan(2)
    expect(checkpoint()).toEqual(slots)
    const report = await backfill({ modified: day })
    expect(report).toMatchObject({ status: 'done', exit: 0, planned: { restore: 0 } })
    const loaded = await stored()
    // The next run reads nothing twice, and has nothing left.
    const next = await run()
    expect(Object.values(next.stores).map((store) => store.loaded)).toEqual([0, 0])
    expect(await stored()).toEqual(loaded)
    // The same as if runs had read it all, but for the clock.
    const ids = await duckdbRows('SELECT count(*) AS n, count(DISTINCT id) AS ids FROM w.clicks', [
      `ATTACH '${join(folder, 'wh.duckdb')}' AS w (READ_ONLY)`,
    ])
    rmSync(join(folder, 'state'), { recursive: true })
    rmSync(join(folder, 'wh.duckdb'))
    rmSync(join(folder, 'archive'), { recursive: true })
    await run()
    expect(
      await duckdbRows('SELECT count(*) AS n, count(DISTINCT id) AS ids FROM w.clicks', [
        `ATTACH '${join(folder, 'wh.duckdb')}' AS w (READ_ONLY)`,
      ]),
    ).toEqual(ids)
  })

  test('reads the stretch that somebody has put a position past', async () => {
    put('a.ndjson', 1, 300)
    await run()
    put('a.ndjson', 1, 900)
    const { job, stateDir, drain: _, ...rest } = await options()
    await changeState({
      ...{ ...rest, job, stateDir, source: 'ads', lane: 'data/a.ndjson', reason: 'test', reload: false, force: true },
      to: String(readFileSync(join(folder, 'data', 'a.ndjson')).length),
    })
    await run()
    const before = (await stored()).wh.length
    const report = await backfill({ missing: true })
    expect(report).toMatchObject({ status: 'done', exit: 0, planned: { restore: 0 } })
    expect(report.planned.first).toBeGreaterThan(1)
    const { wh } = await stored()
    expect(wh.length).toBeGreaterThan(before)
    expect(new Set(wh.map((row) => JSON.parse(String(row)).cost)).size).toBe(wh.length)
    expect(await backfill({ missing: true })).toMatchObject({ status: 'nothing' })
  })

  test('books what a store has got of a backfill that was cut off and given up, and brings it to the others', async () => {
    put('a.ndjson', 1, 300, '2026-03-01T12:00:00Z')
    await backfill({ modified: day })
    const before = await stored()
    // As a kill between the first store and the ledger leaves it.
    rmSync(join(folder, 'state', 'clicks', 'ledger'), { recursive: true })
    rmSync(join(folder, 'archive'), { recursive: true })
    const report = await backfill({ modified: day })
    expect(report).toMatchObject({ status: 'done', exit: 0, planned: { restore: 0 } })
    const after = await stored()
    expect(after.wh).toEqual(before.wh)
    expect(after.archive.length).toBe(before.archive.length)
  })

  test('reads and restores for a job whose one store takes whole files', async () => {
    yaml = JOB.replace(/ {2}wh: .*\n/, '')
      .replace(/ {2}- filter.*\n/, '')
      .replace(/validate: .*\n/, '')
    put('a.ndjson', 1, 700, '2026-03-01T12:00:00Z')
    put('b.ndjson', 1000, 1500, '2026-03-01T13:00:00Z')
    await run({ from: Date.parse('2026-03-01T12:30:00Z') })
    const archive = () => duckdbRows(`SELECT * FROM read_parquet('${folder}/archive/*.parquet') ORDER BY cost, id`)
    const before = await archive()
    for (const name of readdirSync(join(folder, 'archive')).filter((file) => file.endsWith('.parquet')))
      rmSync(join(folder, 'archive', name))
    expect(await backfill({ modified: day })).toMatchObject({ status: 'done', exit: 0, done: { open: 0, left: [] } })
    const after = await archive()
    expect(after.length).toBe(before.length + 699)
    expect(after.filter((row) => Number(row['id']) >= 999)).toEqual(before)
    await run()
    expect(await archive()).toEqual(after)
  })

  test('works before the first run too, and the first run goes on behind it', async () => {
    put('a.ndjson', 1, 700, '2026-03-01T12:00:00Z')
    expect(await backfill({ modified: day })).toMatchObject({ status: 'done', exit: 0 })
    const before = await stored()
    put('a.ndjson', 1, 900)
    expect(await run()).toMatchObject({ exit: 0 })
    expect((await stored()).wh.length).toBeGreaterThan(before.wh.length)
    const [row] = await duckdbRows('SELECT count(*) AS n, count(DISTINCT (id, cost)) AS d FROM w.clicks', [
      `ATTACH '${join(folder, 'wh.duckdb')}' AS w (READ_ONLY)`,
    ])
    expect(row?.['n']).toBe(row?.['d'])
  })
})

describe('a backfill that is paused', () => {
  test('is listed, shown, resumed, and done once', async () => {
    put('a.ndjson', 1, 900)
    await run()
    const before = await stored()
    await warehouse('DELETE FROM clicks')
    const stop = new AbortController()
    const paused = await startBackfill({
      ...(await options()),
      drain: stop.signal,
      observer: { done: ({ items }) => items >= 3 && stop.abort() },
      selection: { missing: true },
      recreate: false,
      dryRun: false,
    })
    expect(paused).toMatchObject({ status: 'paused', exit: 0 })
    const { job, stateDir } = await options()
    expect(await backfillStatuses(job, stateDir)).toMatchObject([{ status: 'paused', who: 'me' }])
    const detail = await backfillDetail(job, stateDir, registry, log, 'last')
    expect(detail.done).toBe(3)
    expect(await resumeBackfill({ ...(await options()), id: paused.backfill ?? '' })).toMatchObject({ status: 'done' })
    expect(await stored()).toEqual(before)
    await expect(resumeBackfill({ ...(await options()), id: 'last' })).rejects.toMatchObject({ code: 'USAGE' })
  })

  test('can be given up: what was loaded stays', async () => {
    put('a.ndjson', 1, 900)
    await run()
    await warehouse('DELETE FROM clicks')
    const stop = new AbortController()
    const observer = { done: () => stop.abort() }
    const selection = { missing: true }
    await startBackfill({
      ...(await options()),
      drain: stop.signal,
      observer,
      selection,
      recreate: false,
      dryRun: false,
    })
    const { wh } = await stored()
    expect(await cancelBackfill({ ...(await options()), id: 'last' })).toMatchObject({ status: 'cancelled' })
    expect((await stored()).wh).toEqual(wh)
    await expect(cancelBackfill({ ...(await options()), id: 'last' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(cancelBackfill({ ...(await options()), id: 'nope' })).rejects.toThrow(/no backfill nope/)
  })
})
