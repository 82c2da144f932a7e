import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { type DiffOptions, diffRun } from '../../src/reconcile/replay-diff.ts'
import { verifyRun } from '../../src/reconcile/replay-verify.ts'
import { runJob } from '../../src/runtime/run.ts'
import { changeDatabase } from '../harness/engine.ts'

const log = pino({ level: 'silent' })
const registry = await loadRegistry()
const signal = new AbortController().signal

let folder: string

const JOB = `version: 1
name: clicks
extract: { ads: { type: files, path: "data/*.ndjson", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, at: timestamp, campaign: integer, cost: bigint } }
validate: [ { id: positive, check: "cost >= 0" } ]
transform:
  - dedupe: { key: [id], within: 1d, time: at }
  - filter: "id % 7 <> 0"
  - derive: { spend: "cost * 2", stamp: "now()::timestamp" }
  - lookup: { table: names, from: { type: files, path: names.csv }, on: { campaign: id }, select: { name: name } }
load:
  wh: { type: duckdb, path: wh.duckdb, table: clicks }
  lines: { type: files, format: ndjson, path: lines, partition: { c: "campaign" } }
  merged: { type: duckdb, path: wh.duckdb, table: merged, write: merge, key: [campaign, id] }
resources: { chunk: 8KB }
`

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-replay-'))
  mkdirSync(join(folder, 'data'))
  writeFileSync(join(folder, 'names.csv'), 'id,name\n0,Spring\n1,Summer\n2,Autumn\n')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** Every 10th is broken, every 11th negative, every 13th has the id of the one before. */
function put(name: string, from: number, to: number): void {
  const lines = Array.from({ length: to - from }, (_, i) => i + from).map((i) => {
    if (i % 10 === 3) return `{"id": ${i}, broken`
    const id = i % 13 === 5 ? i - 1 : i
    return JSON.stringify({ id, at: '2026-03-01T10:00:00Z', campaign: i % 3, cost: i % 11 === 2 ? -1 : i })
  })
  appendFileSync(join(folder, 'data', name), `${lines.join('\n')}\n`)
}

async function jobOf(yaml: string, name = 'clicks.yaml') {
  writeFileSync(join(folder, name), yaml)
  return loadJob(join(folder, name), { registry })
}

async function run(yaml = JOB): Promise<string> {
  const job = await jobOf(yaml)
  const options = { job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' }
  const summary = await runJob(options)
  expect(summary).toMatchObject({ exit: 0, unaccounted: 0 })
  return summary.run
}

/** Under the job file of today, whatever it says. */
const past = async (wanted: string) => {
  const job = await loadJob(join(folder, 'clicks.yaml'), { registry })
  return { job, registry, stateDir: join(folder, 'state'), log, run: wanted, shown: 5, signal }
}
const verify = async (wanted = 'last') => verifyRun({ ...(await past(wanted)), version: '0' })
const diff = async (yaml: string, options: Partial<DiffOptions> = {}) =>
  diffRun({ ...(await past('last')), other: await jobOf(yaml, 'other.yaml'), sum: [], by: [], ...options })

describe('replay --verify', () => {
  test('finds every run equal, whatever became of job file, reference data and later rows since', async () => {
    put('a.ndjson', 1, 500)
    const first = await run()
    put('a.ndjson', 450, 800)
    put('b.ndjson', 700, 900)
    const second = await run()
    writeFileSync(join(folder, 'names.csv'), 'id,name\n0,Winter\n')
    await jobOf(JOB.replace('cost * 2', 'cost * 3').replace('id % 7', 'id % 5'))
    for (const wanted of [first, second, 'last']) {
      const report = await verify(wanted)
      expect(report, JSON.stringify(report.differing)).toMatchObject({
        equal: true,
        exit: 0,
        differing: [],
        not_compared: {},
      })
      expect(report.stores).toEqual({ wh: report.batches, lines: report.batches, merged: report.batches })
      expect(report.batches).toBeGreaterThan(1)
    }
  })

  test('names the batch and the rows in which a store differs, and changes nothing', async () => {
    put('a.ndjson', 1, 500)
    await run()
    const warehouse = join(folder, 'wh.duckdb')
    await changeDatabase(warehouse, 'UPDATE clicks SET spend = 7 WHERE id = 100')
    await changeDatabase(warehouse, 'DELETE FROM clicks WHERE id = 201')
    await changeDatabase(warehouse, 'INSERT INTO clicks SELECT * FROM clicks WHERE id = 300')
    const report = await verify()
    expect(report).toMatchObject({ equal: false, exit: 11 })
    const found = report.differing.map(({ stores }) => stores['wh'])
    const rows = found.flatMap((own) => own?.rows ?? []) as { kind: string; row: Record<string, unknown> }[]
    expect(rows.map(({ kind, row }) => `${kind} ${row['id']} ${row['spend']}`).sort()).toEqual([
      'extra 100 7',
      'extra 300 600',
      'missing 100 200',
      'missing 201 402',
    ])
    for (const { stores, books } of report.differing) {
      expect(Object.keys(stores)).toEqual(['wh'])
      expect(books).toEqual({})
    }
    expect(await verify()).toEqual(report)
  })

  test('finds a changed line and a lost file of a folder', async () => {
    put('a.ndjson', 1, 300)
    await run()
    const files = readdirSync(join(folder, 'lines'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      /^c=.*\.ndjson$/.test(name),
    )
    const [changed = '', lost = ''] = files.map((name) => join(folder, 'lines', name))
    writeFileSync(changed, readFileSync(changed, 'utf8').replace(/"cost":(\d)/, '"cost":$15'))
    rmSync(lost)
    const report = await verify()
    expect(report.exit).toBe(11)
    expect(report.differing.reduce((sum, { stores }) => sum + (stores['lines']?.missing ?? 0), 0)).toBeGreaterThan(1)
  })

  test('says which runs there are when it does not know one, and which store is gone', async () => {
    put('a.ndjson', 1, 300)
    const known = await run()
    await expect(verify('nope')).rejects.toMatchObject({ code: 'USAGE', hint: expect.stringContaining(known) })
    rmSync(join(folder, 'wh.duckdb'))
    await expect(verify()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    expect(readdirSync(folder)).not.toContain('wh.duckdb')
  })

  test('refuses a damaged ledger, and says what cannot be read any more', async () => {
    put('a.ndjson', 1, 300)
    put('b.ndjson', 1000, 1300)
    await run(JOB.replace(/ {2}- dedupe.*\n/, ''))
    rmSync(join(folder, 'data', 'a.ndjson'))
    const report = await verify()
    expect(report).toMatchObject({ equal: false, exit: 65, differing: [] })
    expect(report.unreadable[0]).toMatchObject({ code: 'SOURCE_CHANGED' })
    expect(report.batches).toBeGreaterThan(0)
    const segment = join(folder, 'state', 'clicks', 'ledger', '000001.ndjson')
    writeFileSync(segment, readFileSync(segment, 'utf8').replace('"read":', '"raed":'))
    await expect(verify()).rejects.toMatchObject({ code: 'LEDGER_DAMAGED' })
  })
})

describe('replay --with --diff', () => {
  test('one changed expression shows exactly the rows and the sums that it moves', async () => {
    put('a.ndjson', 1, 500)
    await run()
    const other = JOB.replace('cost * 2', 'cost * 2 + CASE WHEN id BETWEEN 104 AND 106 THEN 1000 ELSE 0 END')
    const out = join(folder, 'moved.ndjson')
    const report = await diff(other, { key: ['id'], sum: ['spend'], by: ['campaign'], out })
    // 105 is filtered.
    expect(report).toMatchObject({ exit: 11, added: 0, removed: 0, changed: 2, changed_columns: { spend: 2 } })
    const ids = readFileSync(out, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).after.id)
    expect(ids.sort()).toEqual([104, 106])
    for (const { before, after } of report.sums) expect(Number(after) - Number(before)).toBe(1000)
    expect(report.sums.map(({ by }) => by['campaign'])).toEqual([1, 2])
    expect(await diff(JOB, { key: ['id'] })).toMatchObject({ exit: 0, added: 0, removed: 0, changed: 0 })
  })

  test('shows rows that come and go, and without a key compares whole rows', async () => {
    put('a.ndjson', 1, 300)
    await run()
    const other = JOB.replace('id % 7', 'id % 5').replace('cost >= 0', 'cost >= 100')
    const report = await diff(other, { key: ['id'] })
    expect(report.added).toBeGreaterThan(0)
    expect(report.removed).toBeGreaterThan(0)
    expect(report.after - report.before).toBe(report.added - report.removed)
    expect(report.quarantined['positive']?.[1]).toBeGreaterThan(report.quarantined['positive']?.[0] ?? 0)
    const whole = await diff(JOB.replace('cost * 2', 'cost * 2 + (id = 104)::int'))
    expect(whole).toMatchObject({ key: null, added: 1, removed: 1, changed: 0 })
    await expect(diff(JOB, { key: ['nope'] })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(diff(JOB.replace('ads:', 'other:'))).rejects.toMatchObject({ code: 'USAGE' })
  })
})
