/** A warehouse that somebody has laid hands on: every row that does not fit is found by name, and put right. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Reconciliation } from '../../src/reconcile/report.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROWS = LONG ? 5_000_000 : 200_000

const JOB = `version: 1
name: rows
extract: { input: { type: files, path: "data/*", settle: 0s } }
contract:
  columns:
    id: { type: bigint, required: true }
    seen: { type: timestamp, required: true }
    kind: varchar
    publisher: varchar
    cost: bigint
validate: [ { id: positive, check: "cost >= 0" } ]
transform: [ { derive: { spend: "cost::decimal(18, 0) * 0.000001" } } ]
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows } }
reconcile: { column: seen, key: [id], window: 1h }
resources: { chunk: 32MB, memory_limit: 512MB }
`

let folder: ReturnType<typeof temporaryFolder>
let job: SmallJob

beforeEach(() => {
  folder = temporaryFolder('reconcile')
  job = new SmallJob(folder.path, JOB)
})

afterEach(() => folder.remove())

async function loaded(): Promise<void> {
  job.put('data/.keep', '')
  await duckdbRows(
    `COPY (SELECT i AS id, timestamp '2026-03-01' + to_microseconds(i * 100000) AS seen, ['view', 'click'][1 + i % 2] AS kind, 'p' || i % 997 AS publisher, i % 5000 AS cost FROM range(${ROWS}) t(i)) TO '${join(folder.path, 'data', 'rows.ndjson')}' (FORMAT json)`,
  )
  expect(await job.summary()).toMatchObject({ read: ROWS, passed: ROWS })
}

async function byHand(...statements: readonly string[]): Promise<void> {
  await duckdbRows('SELECT 1', [`ATTACH '${join(folder.path, 'warehouse.duckdb')}' AS w`, ...statements])
}

async function reconcile(...args: readonly string[]): Promise<{ code: number | null; result: Reconciliation }> {
  const done = await job.command(['reconcile', job.file, '--json', ...args])
  return { code: done.code, result: done.json<Reconciliation>() }
}

describe('a warehouse', () => {
  it(`of ${ROWS} rows: one deleted, one changed, one doubled, one lost with one doubled are found by name and healed`, async () => {
    await loaded()
    expect(await reconcile()).toMatchObject({ code: 0, result: { clean: true } })
    const at = (part: number) => Math.floor(ROWS * part)
    const [deleted, changed, doubled, lost, twice] = [at(0.1), at(0.3), at(0.5), at(0.8), at(0.8) + 1]
    await byHand(
      `DELETE FROM w.rows WHERE id IN (${deleted}, ${lost})`,
      `UPDATE w.rows SET spend = spend + 0.000001 WHERE id = ${changed}`,
      `INSERT INTO w.rows SELECT * FROM w.rows WHERE id IN (${doubled}, ${twice})`,
    )
    const out = join(folder.path, 'differences.ndjson')
    const { code, result } = await reconcile('--out', out)
    expect(code).toBe(11)
    const [report] = result.comparisons
    expect(report?.rows).toEqual({ left: ROWS, right: ROWS })
    expect(report?.differences).toEqual({ missing: 2, extra: 0, different: 1, doubled: 2 })
    const named = (report?.sample ?? []).map(({ kind, key }) => `${kind} ${(key as { id: string }).id}`)
    expect(named.sort()).toEqual(
      [
        `different ${changed}`,
        `doubled ${doubled}`,
        `doubled ${twice}`,
        `missing ${deleted}`,
        `missing ${lost}`,
      ].sort(),
    )
    const rows = await duckdbRows(`SELECT kind, count(*) AS n FROM read_json('${out}') GROUP BY 1 ORDER BY 1`)
    expect(rows).toEqual([
      { kind: 'different', n: '1' },
      { kind: 'doubled', n: '2' },
      { kind: 'missing', n: '2' },
    ])

    expect(await reconcile('--heal', 'missing')).toMatchObject({
      code: 11,
      result: {
        comparisons: [{ heal: { inserted: 2, removed: 0, remaining: { missing: 0, different: 1, doubled: 2 } } }],
      },
    })
    expect((await job.command(['reconcile', job.file, '--heal', 'all'])).code).toBe(2)
    expect(await reconcile('--heal', 'all', '--yes')).toMatchObject({
      code: 0,
      result: { comparisons: [{ heal: { inserted: 1, removed: 3 }, clean: true }] },
    })
    expect(await reconcile()).toMatchObject({ code: 0, result: { clean: true } })
    const [held] = await job.warehouse(
      `SELECT count(*) AS n, count(DISTINCT id) AS ids, count(*) FILTER (spend <> cost * 0.000001) AS wrong, count(*) FILTER (_batch IS NULL) AS lost FROM w.rows`,
    )
    expect(held).toEqual({ n: String(ROWS), ids: String(ROWS), wrong: '0', lost: '0' })
    // Healed rows came from no range of their own: a run finds nothing to do, and the books still close.
    expect(await job.summary()).toMatchObject({ status: 'done', read: 0 })
    expect((await job.command(['prove', job.file])).stdout).toContain('proven')
    const asked = await job.command([
      'query',
      '--job',
      job.file,
      `select type, who, what, status from ledger where type like 'heal%'`,
      '--json',
    ])
    expect(asked.json<{ rows: unknown[] }>().rows).toMatchObject([
      { type: 'heal_started', what: 'missing' },
      { type: 'heal_ended', status: 'done' },
      { type: 'heal_started', what: 'all' },
      { type: 'heal_ended', status: 'done' },
    ])
  })

  it('is printed as a table for people, with the buckets, the rows, and where they come from', async () => {
    job.put('data/rows.ndjson', '')
    writeFileSync(
      join(folder.path, 'data', 'rows.ndjson'),
      `{"id":1,"seen":"2026-03-01T10:00:00Z","cost":5}\n{"id":2,"seen":"2026-03-01T11:00:00Z","cost":6}\n`,
    )
    expect(await job.summary()).toMatchObject({ passed: 2 })
    await byHand('UPDATE w.rows SET cost = 7 WHERE id = 2', 'DELETE FROM w.rows WHERE id = 1')
    const { code, stdout } = await job.command(['reconcile', job.file, '--sum', 'cost'])
    expect(code).toBe(11)
    expect(stdout).toContain('1 missing, 1 different, in 2 of 2 buckets')
    expect(stdout).toMatch(/2026-03-01T11:00:00.000Z +1 +1 +6 +7/)
    expect(stdout).toMatch(/different +2 +cost: 6 ≠ 7 +data\/rows.ndjson/)
  })
})
