import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import duckdb from '../../../src/loaders/duckdb.ts'
import { type DiagnosisOptions, diagnosed, statuses } from '../../harness/diagnosis.ts'
import { changeDatabase } from '../../harness/engine.ts'

const COLUMNS = [
  { name: 'id', type: 'BIGINT', from: ['id'] },
  { name: 'name', type: 'VARCHAR', from: ['name'] },
]
const WELL = { reachable: 'ok', target: 'ok', permission: 'ok', disk: 'ok' }

let folder: string
let file: string
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'adflow-diagnose-')))
  file = join(folder, 'warehouse.duckdb')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const asked = (options: Readonly<Record<string, unknown>> = {}, env: DiagnosisOptions = {}) =>
  diagnosed(
    duckdb,
    { path: 'warehouse.duckdb', table: 'events', ...options },
    { baseDir: folder, columns: COLUMNS, ...env },
  )
const target = async (...options: Parameters<typeof asked>) =>
  (await asked(...options)).find(({ check }) => check === 'target')

/** A process that has the file open, and may be killed. */
async function holder(sql: string) {
  const script = `
    import { DuckDBInstance } from '@duckdb/node-api'
    const connection = await (await DuckDBInstance.create('${file}')).connect()
    await connection.run("SET checkpoint_threshold = '1GB'")
    await connection.run("${sql}")
    console.log('open')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  const kill = async () => {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  return { pid: child.pid, kill }
}

it('a file that is not there yet is not made', async () => {
  expect(statuses(await asked({ path: 'deep/warehouse.duckdb' }))).toEqual({
    target: 'ok',
    permission: 'ok',
    disk: 'ok',
  })
  expect(readdirSync(folder)).toEqual([])
})

it('a file is opened for reading, and nothing of it changes', async () => {
  await changeDatabase(file, 'CREATE TABLE events AS SELECT 1::INTEGER AS id')
  const before = { bytes: readFileSync(file), at: statSync(file).mtimeMs }
  const findings = await asked()
  expect(statuses(findings)).toEqual(WELL)
  expect((await target())?.found).toBe(
    'would be made in main.events: ALTER COLUMN "id" SET DATA TYPE BIGINT, ADD COLUMN "name" VARCHAR, ADD COLUMN "_batch" BIGINT',
  )
  expect((await target({ table: 'others' }))?.found).toBe('would be made: table main.others')
  expect({ bytes: readFileSync(file), at: statSync(file).mtimeMs }).toEqual(before)
  expect(readdirSync(folder)).toEqual(['warehouse.duckdb'])
})

it('what a killed process left in the log of the file is left there', async () => {
  const { kill } = await holder('CREATE TABLE events AS SELECT 1::BIGINT AS id')
  await kill()
  const log = `${file}.wal`
  const before = [readFileSync(file), readFileSync(log)]
  expect((await target())?.found).toContain('would be made in main.events: ADD COLUMN "name"')
  expect([readFileSync(file), readFileSync(log)]).toEqual(before)
})

it('a file that another process holds is named with it, and is no fault where that is the run of this job', async () => {
  const { pid, kill } = await holder('SELECT 1')
  try {
    expect(await asked()).toMatchObject([
      { check: 'reachable', status: 'failed', code: 'STORE_LOCKED', found: expect.stringContaining(`process ${pid}`) },
    ])
    expect(statuses(await asked({}, { runningPid: pid ?? 0 }))).toEqual({
      reachable: 'ok',
      permission: 'ok',
      disk: 'ok',
    })
  } finally {
    await kill()
  }
})

it('a table that does not fit, that keeps its columns, or waits for its replace, is said', async () => {
  await changeDatabase(file, 'CREATE TABLE events AS SELECT 1::BIGINT AS id')
  expect(await target({ evolve: false })).toMatchObject({ status: 'failed', code: 'STORE_MISMATCH' })
  await changeDatabase(file, "ALTER TABLE events ADD COLUMN name VARCHAR DEFAULT 'a'")
  expect(await target({ evolve: false })).toMatchObject({ status: 'warning', mend: expect.stringContaining('_batch') })
  await changeDatabase(file, 'CREATE TABLE events__adflow_next AS SELECT 1 AS id')
  expect(await target()).toMatchObject({ status: 'failed', found: expect.stringContaining('never became complete') })
  expect(await target({ write: 'replace' })).toMatchObject({ status: 'ok' })
})

it('a file of something else is damaged', async () => {
  writeFileSync(file, 'x'.repeat(10_000))
  expect(statuses(await asked())).toEqual({ reachable: 'failed STORE_DAMAGED' })
  expect(existsSync(`${file}.wal`)).toBe(false)
})
