/** A heal that is killed has happened or has not, and the next one knows which. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { verifyLedger } from '../../src/lineage/ledger-verify.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { ROWS_JOB, SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const KILLS = LONG ? 60 : 4
const ROWS = 3000

let folder: ReturnType<typeof temporaryFolder>
let job: SmallJob

beforeEach(async () => {
  folder = temporaryFolder('heal')
  job = new SmallJob(folder.path, `${ROWS_JOB}reconcile: { key: [id] }\nresources: { chunk: 32kB }\n`)
  const lines = Array.from({ length: ROWS }, (_, id) => `{"id":${id},"n":${id % 100},"name":"name ${id}"}`)
  job.put('data/rows.ndjson', `${lines.join('\n')}\n`)
  expect(await job.summary()).toMatchObject({ passed: ROWS })
})
afterEach(() => folder.remove())

async function byHand(...statements: readonly string[]): Promise<void> {
  await duckdbRows('SELECT 1', [`ATTACH '${join(folder.path, 'warehouse.duckdb')}' AS w`, ...statements])
}

const heal = (store: string, options: Parameters<SmallJob['command']>[1] = {}) =>
  job.command(['reconcile', job.file, '--against', store, '--heal', 'all', '--yes', '--json'], options)

async function held(select: string): Promise<Record<string, unknown> | undefined> {
  return (await duckdbRows(select, [`ATTACH '${join(folder.path, 'warehouse.duckdb')}' AS w (READ_ONLY)`]))[0]
}

async function openHeals(): Promise<unknown[]> {
  const asked = await job.command([
    'query',
    '--job',
    job.file,
    "select token from ledger where type = 'heal_started' and token not in (select token from ledger where type = 'heal_ended')",
    '--json',
  ])
  return asked.json<{ rows: unknown[] }>().rows
}

/** Kills the process somewhere between its start and its end. */
async function killed(store: string, seed: number): Promise<void> {
  await heal(store, {
    started: (child) => void sleep(700 + ((seed * 37) % 11) * 130).then(() => child.kill('SIGKILL')),
  })
}

describe('kill -9 of a heal', () => {
  const seed = Number(process.env['ADFLOW_TEST_SEED'] ?? Date.now() % 1000)

  test(`of a warehouse, ${KILLS} times (seed ${seed}): every row is there once at the end, and every heal has an end`, async () => {
    for (let kill = 0; kill < KILLS; kill += 1) {
      await byHand(
        `DELETE FROM w.rows WHERE id % 7 = ${kill % 7}`,
        `UPDATE w.rows SET name = 'wrong' WHERE id % 11 = ${kill % 11}`,
        `INSERT INTO w.rows SELECT * FROM w.rows WHERE id % 13 = ${kill % 13}`,
      )
      await killed('warehouse', seed + kill)
    }
    expect((await heal('warehouse')).code).toBe(0)
    expect(
      await held(
        `SELECT count(*) AS n, count(DISTINCT id) AS ids, count(*) FILTER (name <> 'name ' || id) AS wrong FROM w.rows`,
      ),
    ).toEqual({
      n: String(ROWS),
      ids: String(ROWS),
      wrong: '0',
    })
    expect(await openHeals()).toEqual([])
    expect((await verifyLedger(join(job.state, 'ledger'))).damage).toBeUndefined()
    expect(await job.summary()).toMatchObject({ status: 'done', read: 0 })
  })

  test(`of a folder, ${KILLS} times (seed ${seed}): the files are whole at the end`, async () => {
    for (let kill = 0; kill < KILLS; kill += 1) {
      const files = job.traces().filter((path) => path.endsWith('.parquet'))
      for (const file of files.filter((_, index) => index % 2 === kill % 2)) rmSync(join(folder.path, file))
      await killed('archive', seed + kill)
    }
    expect((await heal('archive')).code).toBe(0)
    expect(await job.archive('SELECT count(*) AS n, count(DISTINCT id) AS ids FROM archive')).toEqual([
      { n: String(ROWS), ids: String(ROWS) },
    ])
    expect(await openHeals()).toEqual([])
    expect(await job.summary()).toMatchObject({ status: 'done', read: 0 })
    // Rows of both stores are those that the ledger noted when they were first written.
    expect((await heal('warehouse')).code).toBe(0)
    expect((await job.command(['prove', job.file])).code).toBe(0)
  })
})

describe('a heal', () => {
  test('that was cut off before its end was booked is ended by the next one, as the store has it', async () => {
    await byHand('DELETE FROM w.rows WHERE id < 10')
    expect((await heal('warehouse')).code).toBe(0)
    // As after a kill between the store's commit and the last event.
    const segment = join(job.state, 'ledger', '000001.ndjson')
    const lines = readFileSync(segment, 'utf8').trimEnd().split('\n')
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ type: 'heal_ended' })
    writeFileSync(segment, `${lines.slice(0, -1).join('\n')}\n`)
    expect(await openHeals()).toHaveLength(1)
    expect((await heal('warehouse')).json()).toMatchObject({ clean: true, comparisons: [{ heal: null }] })
    expect(await openHeals()).toEqual([])
    const events = readFileSync(segment, 'utf8').trimEnd().split('\n')
    expect(JSON.parse(events.at(-1) ?? '')).toMatchObject({
      type: 'heal_ended',
      status: 'done',
      after: { inserted: 10 },
    })
    expect(await held('SELECT count(*) AS n FROM w.rows')).toEqual({ n: String(ROWS) })
  })

  test('is not refused when the same rows are lost a second time', async () => {
    for (const _ of [1, 2]) {
      await byHand('DELETE FROM w.rows WHERE id < 10')
      expect((await heal('warehouse')).json()).toMatchObject({ comparisons: [{ heal: { inserted: 10 } }] })
    }
    expect(await held('SELECT count(*) AS n FROM w.rows')).toEqual({ n: String(ROWS) })
  })

  test('of missing rows leaves a batch of a folder alone that has other differences, and says which', async () => {
    const [file] = job.traces().filter((path) => path.endsWith('.parquet'))
    const path = join(folder.path, file ?? '')
    await duckdbRows(
      `COPY (SELECT * REPLACE (CASE WHEN id % 2 = 0 THEN 'wrong' ELSE name END AS name) FROM read_parquet('${path}') WHERE id % 5 > 0) TO '${path}.new' (FORMAT parquet)`,
    )
    await duckdbRows(`COPY (FROM read_parquet('${path}.new')) TO '${path}' (FORMAT parquet)`)
    rmSync(`${path}.new`)
    const missing = await job.command(['reconcile', job.file, '--against', 'archive', '--heal', 'missing', '--json'])
    expect(missing.code).toBe(11)
    expect(missing.json()).toMatchObject({ comparisons: [{ heal: { inserted: 0, skipped: [expect.any(String)] } }] })
    expect((await heal('archive')).code).toBe(0)
  })
})
