/** A job that goes on for ever: what comes is loaded, a store that is down holds up no other and is paid while the job runs. */
import { appendFileSync } from 'node:fs'
import { Client } from 'pg'
import { expect, it, vi } from 'vitest'
import type { DoctorReport } from '../../src/runtime/doctor.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { freshDatabase } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'

const PATIENCE = { timeout: 60_000, interval: 50 }

await serverSuite('a job that goes on for ever', ['postgres', 'toxiproxy'], ({ postgres, toxiproxy }) => {
  it('pays a store that was down while the other goes on, and ends with 0 when it is told to stop', async () => {
    const folder = temporaryFolder('forever')
    await using database = await freshDatabase(postgres)
    await using proxy = await proxyFor(toxiproxy, database.url)
    const job = new SmallJob(folder.path, jobOf(proxy.url))
    const source = job.put('data/a.ndjson', '')
    let next = 0
    const write = (records: number) => {
      const lines = Array.from({ length: records }, () => `{"id":${next++}}\n`)
      appendFileSync(source, lines.join(''))
    }
    const inFiles = async () =>
      Number((await duckdbRows(`SELECT count(*) AS n FROM read_json('${folder.path}/archive/**/*.ndjson')`))[0]?.['n'])
    const inPostgres = () => countOf(database.url)

    write(100)
    const child = Promise.withResolvers<number>()
    const ended = job.run([], { started: ({ pid }) => child.resolve(pid ?? 0) })
    const pid = await child.promise
    await vi.waitFor(async () => expect([await inFiles(), await inPostgres()]).toEqual([100, 100]), PATIENCE)

    await proxy.down()
    write(50)
    await vi.waitFor(async () => expect(await inFiles()).toBe(150), PATIENCE)
    write(50)
    await vi.waitFor(async () => expect(await inFiles()).toBe(200), PATIENCE)
    expect(await inPostgres()).toBe(100)

    await proxy.up()
    await vi.waitFor(async () => expect(await inPostgres()).toBe(200), PATIENCE)
    write(25)
    await vi.waitFor(async () => expect([await inFiles(), await inPostgres()]).toEqual([225, 225]), PATIENCE)

    process.kill(pid, 'SIGTERM')
    const result = await ended
    const summary = result.json<RunSummary>()
    expect({ code: result.code, status: summary.status, error: summary.error }).toEqual({ code: 0, status: 'done' })
    expect(summary).toMatchObject({ read: 225, passed: 225, unaccounted: 0 })
    expect(summary.stores).toMatchObject({ postgres: { loaded: 225, owed: 0 }, archive: { loaded: 225, owed: 0 } })
    expect(summary.batches).toBeGreaterThanOrEqual(4)
    folder.remove()
  })

  it('is killed and started again: nothing is lost and nothing comes twice', async () => {
    const folder = temporaryFolder('forever')
    await using database = await freshDatabase(postgres)
    const job = new SmallJob(folder.path, jobOf(database.url))
    const source = job.put('data/a.ndjson', '')
    let next = 0
    for (let round = 1; round <= 4; round += 1) {
      const child = Promise.withResolvers<number>()
      const ended = job.run([], { started: ({ pid }) => child.resolve(pid ?? 0) })
      const pid = await child.promise
      const wanted = round * 300
      for (; next < wanted; next += 10)
        appendFileSync(source, Array.from({ length: 10 }, (_, index) => `{"id":${next + index}}\n`).join(''))
      await vi.waitFor(async () => expect(await countOf(database.url)).toBeGreaterThan(wanted - 300), PATIENCE)
      process.kill(pid, round < 4 ? 'SIGKILL' : 'SIGTERM')
      await ended
    }
    const summary = (await job.run(['--until', 'now'])).json<RunSummary>()
    expect(summary).toMatchObject({ exit: 0, status: 'done' })
    const [found] = await duckdbRows(
      `SELECT count(*) AS n, count(DISTINCT id) AS ids FROM read_json('${folder.path}/archive/**/*.ndjson')`,
    )
    expect(found).toMatchObject({ n: '1200', ids: '1200' })
    expect(await countOf(database.url)).toBe(1200)
    folder.remove()
  })

  it('takes up no batch while a lookup in PostgreSQL is older than max_age, and goes on with its newest version', async () => {
    const folder = temporaryFolder('forever')
    await using database = await freshDatabase(postgres)
    await using proxy = await proxyFor(toxiproxy, database.url)
    const ask = async (sql: string) => {
      const client = new Client({ connectionString: database.url })
      await client.connect()
      await client.query(sql).finally(() => client.end())
    }
    await ask(
      `CREATE TABLE budgets (id bigint PRIMARY KEY, daily numeric, since timestamptz, note text);
       INSERT INTO budgets VALUES (9007199254740993, 12345678901234567890.123456, '2026-01-05 12:00:00.000001+02', ''), (2, NULL, NULL, NULL)`,
    )
    const job = new SmallJob(folder.path, lookupOf(proxy.url))
    const source = job.put('data/a.ndjson', '')
    const write = (id: string) => appendFileSync(source, `{"id":${id}}\n`)
    const stored = () =>
      duckdbRows(
        `SELECT id::VARCHAR AS id, daily, since, note FROM read_json('${folder.path}/archive/**/*.ndjson', columns = {id: 'BIGINT', daily: 'VARCHAR', since: 'VARCHAR', note: 'VARCHAR'}) ORDER BY filename, id`,
      ).catch(() => []) // no file yet

    write('9007199254740993')
    write('2')
    const child = Promise.withResolvers<number>()
    let log = ''
    const ended = job.run([], {
      started: ({ pid, stderr }) => {
        stderr?.on('data', (data: Buffer) => (log += data.toString()))
        child.resolve(pid ?? 0)
      },
    })
    const pid = await child.promise
    const first = [
      { id: '2', daily: null, since: null, note: null },
      {
        id: '9007199254740993',
        daily: '12345678901234567890.123456',
        since: expect.stringContaining('10:00:00.000001'),
        note: '',
      },
    ]
    await vi.waitFor(async () => expect(await stored()).toEqual(first), PATIENCE)
    const findings = async () => {
      const { findings: all } = (await job.command(['doctor', job.file, '--json'])).json<DoctorReport>()
      return all.filter(({ kind }) => kind === 'step').map(({ component, check, status }) => [component, check, status])
    }
    expect(await findings()).toContainEqual(['lookup_1', 'target', 'ok'])

    await proxy.down()
    await vi.waitFor(() => expect(log).toContain('no batch is taken up'), PATIENCE)
    write('2')
    await ask('UPDATE budgets SET daily = 7 WHERE id = 2')
    await proxy.up()
    await vi.waitFor(async () => expect(await stored()).toHaveLength(3), PATIENCE)
    expect((await stored()).filter(({ daily }) => daily?.toString().startsWith('7'))).toHaveLength(1)

    process.kill(pid, 'SIGTERM')
    expect((await ended).json<RunSummary>()).toMatchObject({ exit: 0, read: 3, passed: 3, unaccounted: 0 })
    folder.remove()
  })
})

function jobOf(url: string): string {
  return `version: 1
name: rows
until: forever
extract:
  input: { type: files, path: "data/*", settle: 0s, poll: 50ms }
contract:
  columns:
    id: { type: bigint, required: true }
load:
  postgres: { type: postgres, url: ${JSON.stringify(url)}, table: events }
  archive: { type: files, format: ndjson, path: archive }
stream: { store_timeout: 2s }
`
}

function lookupOf(url: string): string {
  return `version: 1
name: rows
until: forever
extract:
  input: { type: files, path: "data/*", settle: 0s, poll: 50ms }
contract:
  columns:
    id: { type: bigint, required: true }
transform:
  - lookup:
      table: budgets
      from:
        type: postgres
        url: ${JSON.stringify(url)}
        query: select * from budgets
        columns: { id: bigint, daily: "decimal(38,6)", since: timestamptz, note: varchar }
      refresh: 100ms
      max_age: 300ms
      on: { id: id }
load:
  archive: { type: files, format: ndjson, path: archive }
`
}

/** 0 where the table is not there yet. */
async function countOf(url: string): Promise<number> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query("SELECT to_regclass('events') AS there")
    if (rows[0].there === null) return 0
    return Number((await client.query('SELECT count(*) AS n FROM events')).rows[0].n)
  } finally {
    await client.end()
  }
}
