/** The example jobs on data nobody here has made, against SQL written by hand over the same files. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { literal } from '../../src/engine/sql-text.ts'
import { verifyRun } from '../../src/reconcile/replay-verify.ts'
import { runJobTests } from '../../src/runtime/job-tests.ts'
import { lintJobs } from '../../src/runtime/lint.ts'
import { runJob } from '../../src/runtime/run.ts'

const root = join(import.meta.dirname, '..', '..')
const data = join(root, 'node_modules', 'vega-datasets', 'data')
const file = (name: string) => literal(join(data, name))

interface Example {
  readonly job: string
  readonly table: string
  readonly read: number
  readonly quarantined: Readonly<Record<string, number>>
  readonly filtered: number
  /** The rows that must be in the table, by hand. */
  readonly sql: string
}

const EXAMPLES: readonly Example[] = [
  {
    job: 'flights-3m',
    table: 'flights',
    read: 3_000_000,
    quarantined: { delay_sane: 11 },
    filtered: 0,
    sql: `SELECT date, delay, distance, origin, destination, date::DATE AS day, delay > 15 AS late, round(distance * 1.609344)::INTEGER AS km
      FROM read_parquet(${file('flights-3m.parquet')}) WHERE delay BETWEEN -120 AND 1440`,
  },
  {
    job: 'flights-200k',
    table: 'flights',
    read: 200_000,
    quarantined: { delay_sane: 1 },
    filtered: 2_871,
    sql: `SELECT delay::BIGINT AS delay, distance::BIGINT AS distance, "time"::DOUBLE AS "time", floor("time")::INTEGER AS hour,
        CASE WHEN distance < 700 THEN 'short' WHEN distance < 2200 THEN 'medium' ELSE 'long' END AS haul
      FROM read_json(${file('flights-200k.json')}, format = 'array')
      WHERE delay BETWEEN -120 AND 1440 AND "time" < 24 AND distance >= 100`,
  },
  {
    job: 'movies',
    table: 'movies',
    read: 3_201,
    quarantined: { released: 22, required: 1 },
    filtered: 0,
    sql: `WITH m AS (SELECT *, "Title"->>'$' AS title_text, strptime("Release Date", '%b %d %Y')::DATE AS day
        FROM read_json(${file('movies.json')}, format = 'array', sample_size = -1))
      SELECT title_text, "US Gross", "Worldwide Gross", "US DVD Sales", "Production Budget", day, coalesce("MPAA Rating", 'Not Rated'),
        "Running Time min", "Distributor", "Source", "Major Genre", "Creative Type", "Director", "Rotten Tomatoes Rating",
        "IMDB Rating", "IMDB Votes", year(day), "Worldwide Gross" - "Production Budget"
      FROM m WHERE title_text IS NOT NULL AND year(day) < 2012 AND ("US Gross" <= "Worldwide Gross") IS NOT FALSE`,
  },
  {
    job: 'birdstrikes',
    table: 'strikes',
    read: 10_000,
    quarantined: { damage_known: 15 },
    filtered: 0,
    sql: `SELECT "Airport Name", "Origin State", "Flight Date", year("Flight Date"), "Aircraft Airline Operator", "Effect Amount of damage",
        CASE WHEN "Wildlife Species" NOT LIKE '%nknown%' THEN "Wildlife Species" END, "Wildlife Size", "Cost Total $", "Speed IAS in knots"
      FROM read_csv(${file('birdstrikes.csv')}, sample_size = -1)
      WHERE "Effect Amount of damage" NOT IN ('B', 'C') AND "Cost Total $" = "Cost Other" + "Cost Repair"`,
  },
]

const registry = await loadRegistry()
const log = pino({ level: 'silent' })

let folder = ''
let engine: Engine
let session: Session
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-public-data-'))
  engine = await Engine.open({ memoryBytes: 1e9, threads: 2, tempFolder: folder, locked: false })
  session = await engine.connect()
})
afterAll(async () => {
  session.close()
  engine.close()
  await rm(folder, { recursive: true })
})

describe.each(EXAMPLES)('the example $job', ({ job: name, table, read, quarantined, filtered, sql }) => {
  const path = join(root, 'jobs', `${name}.yaml`)
  const load = () => loadJob(path, { registry, env: { ADFLOW_OUT: folder, ADFLOW_VEGA: data } })

  it('lints clean and passes its own tests', async () => {
    const linted = await lintJobs([path], { registry, log, rate: 1000, env: {} })
    expect(linted.files[0]).toMatchObject({ problems: [], warnings: [] })
    const results = []
    for await (const result of runJobTests({ job: await load(), registry, log })) results.push(result)
    expect(results.length).toBeGreaterThan(0)
    expect(results.filter(({ ok }) => !ok)).toEqual([])
  })

  it('gives the same rows as SQL written by hand, and the second run adds none', async () => {
    const options = { job: await load(), registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' }
    const summary = await runJob(options)
    expect(summary.error).toBeUndefined()
    expect(summary).toMatchObject({ status: 'done', read, quarantined_by: quarantined, filtered, unaccounted: 0 })
    expect(await runJob(options)).toMatchObject({ status: 'done', read: 0 })
    await session.attach(join(folder, `${name}.duckdb`), table, true)
    const loaded = `SELECT * EXCLUDE (_batch) FROM ${table}.main.${table}`
    expect(await difference(loaded, sql, read)).toEqual({ loaded: BigInt(summary.passed), surplus: 0n, missing: 0n })
    await session.run(`DETACH ${table}`)
  })

  it('repeated, gives what was booked and what the store has', { timeout: 180_000 }, async () => {
    const signal = new AbortController().signal
    const options = {
      job: await load(),
      registry,
      stateDir: join(folder, 'state'),
      log,
      version: '0',
      signal,
      shown: 3,
    }
    const report = await verifyRun({ ...options, run: 'last' })
    expect(report).toMatchObject({ equal: true, exit: 0, records: read, differing: [], not_compared: {} })
  })
})

/** Rows of one SELECT that the other does not have, doubled ones included. Millions are compared by their digest: a sum of
 *  hashes, in which a row that is missing and one that is too much do not cancel out. */
async function difference(loaded: string, expected: string, size: number): Promise<Record<string, unknown>> {
  const count = `(SELECT count(*) FROM (${loaded})) AS loaded`
  const digest = (select: string) => `(SELECT (count(*), sum(hash(t)))::VARCHAR FROM (${select}) t)`
  const differ = `(${digest(loaded)} <> ${digest(expected)})::BIGINT`
  const [row] = await session.rows(
    size > 1_000_000
      ? `SELECT ${count}, ${differ} AS surplus, ${differ} AS missing`
      : `SELECT ${count}, (SELECT count(*) FROM (${loaded} EXCEPT ALL (${expected}))) AS surplus,
          (SELECT count(*) FROM ((${expected}) EXCEPT ALL ${loaded})) AS missing`,
  )
  return row ?? {}
}
