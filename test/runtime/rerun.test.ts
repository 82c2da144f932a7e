import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { tokenNumber } from '../../src/core/token.ts'
import { openBrowser } from '../../src/runtime/browse.ts'
import { type PastBatch, pastBatches } from '../../src/runtime/past-batches.ts'
import { Rerun } from '../../src/runtime/rerun.ts'
import { runJob } from '../../src/runtime/run.ts'
import { stateDirOf } from '../../src/runtime/state-dir.ts'
import { duckdbRows } from '../harness/engine.ts'

const log = pino({ level: 'silent' })
const never = new AbortController().signal
const registry = await loadRegistry()

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-rerun-'))
  mkdirSync(join(folder, 'data'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const JOB = `version: 1
name: clicks
extract: { ads: { type: files, path: "data/*", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, at: timestamp, cost: bigint } }
validate: [ { id: positive, check: "cost >= 0" } ]
transform:
  - dedupe: { key: [id], within: 1d, time: at }
  - filter: "id % 7 <> 0"
  - derive: { spend: "cost * 2", stamp: "now()::timestamp" }
load: { wh: { type: duckdb, path: wh.duckdb, table: clicks } }
resources: { chunk: 4KB }
`

/** Every 10th is broken, every 11th negative, every 13th a duplicate of the one before. */
const records = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => i + from).map((i) => {
    if (i % 10 === 3) return `{"id": ${i}, broken`
    const id = i % 13 === 5 ? i - 1 : i
    return JSON.stringify({ id, at: '2026-03-01T10:00:00Z', cost: i % 11 === 2 ? -1 : i })
  })
const csv = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `${i + from},2026-03-01 10:00:00,${i}`).join('\n')

const options = async () => {
  const file = join(folder, 'clicks.yaml')
  writeFileSync(file, JOB)
  const job = await loadJob(file, { registry })
  return { job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' }
}

async function loaded(): Promise<Awaited<ReturnType<typeof options>>> {
  writeFileSync(join(folder, 'data', 'a.ndjson'), `${records(1, 700).join('\n')}\n`)
  writeFileSync(join(folder, 'data', 'b.csv'), `id,at,cost\n${csv(1000, 1500)}\n`)
  writeFileSync(join(folder, 'data', 'c.ndjson.gz'), gzipSync(`${records(2000, 2500).join('\n')}\n`))
  const run = await options()
  expect(await runJob(run)).toMatchObject({ exit: 0, unaccounted: 0 })
  return run
}

async function past(where?: string): Promise<readonly PastBatch[]> {
  const { job, stateDir } = await options()
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    return await pastBatches(browser.session, where)
  } finally {
    browser.close()
  }
}

/** Rows of the store by the number of their batch; the clock among them. */
async function stored(): Promise<Map<bigint, string[]>> {
  const rows = await duckdbRows(
    `SELECT _batch, to_json(c)::VARCHAR AS row FROM (SELECT * FROM w.clicks) c ORDER BY 2`,
    [`ATTACH '${join(folder, 'wh.duckdb')}' AS w (READ_ONLY)`],
  )
  const batches = Map.groupBy(rows, (row) => BigInt(String(row['_batch'])))
  return new Map([...batches].map(([batch, own]) => [batch, own.map((row) => String(row['row']))]))
}

async function repeated(batches: readonly PastBatch[], memory = true): Promise<Map<bigint, string[]>> {
  const { job, stateDir } = await options()
  const { database } = stateDirOf(stateDir, job.name)
  const rerun = await Rerun.open({ job, registry, log, outputs: [], ...(memory ? { memory: database } : {}) })
  const found = new Map<bigint, string[]>()
  try {
    for await (const item of rerun.repeat('ads', batches, never)) {
      if ('gap' in item) throw new Error(item.message)
      const number = tokenNumber(item.past.token)
      const rows = await rerun.session.rows(
        `SELECT to_json(c)::VARCHAR AS row FROM (SELECT * EXCLUDE (__row), (${number})::BIGINT AS _batch FROM (${item.rows})) c ORDER BY 1`,
      )
      expect(rows.length).toBe(item.past.rows)
      if (rows.length > 0)
        found.set(
          number,
          rows.map((row) => String(row['row'])),
        )
    }
  } finally {
    await rerun.close()
  }
  return found
}

describe('batches of the past', () => {
  test('give the rows that the store has of them, clock included, whatever the format', async () => {
    await loaded()
    const batches = await past()
    expect(batches.length).toBeGreaterThan(10)
    expect(await repeated(batches)).toEqual(await stored())
  })

  test('can be taken from the middle of lanes, after files have grown and got other names', async () => {
    await loaded()
    appendFileSync(join(folder, 'data', 'a.ndjson'), `${records(700, 800).join('\n')}\n`)
    renameSync(join(folder, 'data', 'b.csv'), join(folder, 'data', 'renamed.csv'))
    const middle = await past('batches.range_from > 0')
    expect(middle.every(({ markFrom }) => markFrom !== undefined)).toBe(true)
    const wanted = new Set(middle.map(({ token }) => tokenNumber(token)))
    const expected = [...(await stored())].filter(([batch]) => wanted.has(batch))
    expect(await repeated(middle)).toEqual(new Map(expected))
  })

  test('from the first on need no memory of the steps', async () => {
    await loaded()
    expect(await repeated(await past(), false)).toEqual(await stored())
  })

  test('lead from a row to its record, past those that never became rows', async () => {
    const { job } = await loaded()
    const rerun = await Rerun.open({ job, registry, log, outputs: [] })
    for await (const item of rerun.repeat('ads', await past("lane LIKE '%a.ndjson'"), never)) {
      if ('gap' in item) throw new Error(item.message)
      const rows = await rerun.session.rows(
        `SELECT __row::INTEGER AS r, id::INTEGER AS id FROM (${item.rows}) ORDER BY 1`,
      )
      const raw = await item.chunk.raw(item.ordinals(rows.map((row) => Number(row['r']))))
      expect(raw.map((bytes) => JSON.parse(bytes.toString()).id)).toEqual(rows.map((row) => row['id']))
    }
    await rerun.close()
  })

  test('are refused where the source has other bytes by now', async () => {
    await loaded()
    writeFileSync(
      join(folder, 'data', 'a.ndjson'),
      `${records(1, 700).join('\n').replace('"cost":100', '"cost":101')}\n`,
    )
    await expect(repeated(await past("lane LIKE '%a.ndjson'"))).rejects.toThrow(/a\.ndjson/)
  })
})
