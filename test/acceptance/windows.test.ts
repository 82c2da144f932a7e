/** A job with windows and a join, killed at random instants: their rows are those of one SQL statement over the whole input. What
 *  comes when they have closed is told of. */

import type { ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const SEEDS = LONG ? 20 : 1
const KILLS = LONG ? 10 : 3
const EVENTS = LONG ? 200_000 : 40_000
const LANES = 3
const FOREVER = ['--until', 'forever']
const LATENESS_MS = 20_000
/** Until then each lane must have been heard of: with a process that is killed after every few batches, on a machine that does much else. */
const SETTLE = LONG ? '30s' : '8s'
/** Five minutes before midnight in Shanghai. */
const START = Date.UTC(2026, 0, 5, 15, 55)

const JOB = `version: 1
name: rows
extract:
  input: { type: files, path: "data/*", settle: 0s }
contract:
  columns:
    id: { type: bigint, required: true }
    campaign: varchar
    t: { type: timestamp, required: true }
    cost: decimal(18,6)
transform:
  - dedupe: { key: [id] }
  - join:
      id: pairs
      left: { where: "id % 2 = 0" }
      right: { where: "id % 2 = 1 and id % 10 < 9" }
      "on": { "id // 2": "id // 4" }
      time: t
      within: { before: 0s, after: 10m }
      lateness: 20s
      settle: ${SETTLE}
      idle: 1h
      select: { other: id, price: cost }
  - window:
      id: minutes
      time: t
      every: 1m
      lateness: 20s
      settle: ${SETTLE}
      idle: 1h
      by: [campaign]
      early: 100ms
      late: { to: late }
      select: { n: "count(*)", ids: "count(distinct id)", spend: "sum(cost)" }
  - window:
      id: pacing
      time: t
      cumulative: { every: 1m, reset: day, timezone: Asia/Shanghai }
      lateness: 20s
      settle: ${SETTLE}
      idle: 1h
      early: 100ms
      by: [campaign]
      late: { to: late_pacing }
      select: { n: "count(*)", ids: "count(distinct id)", spend: "sum(cost)" }
load:
  warehouse: { type: duckdb, input: minutes, path: warehouse.duckdb, table: rows }
  archive: { type: files, input: minutes, format: ndjson, path: archive }
  joined: { type: duckdb, input: pairs, path: warehouse.duckdb, table: pairs }
  late: { type: files, input: late, format: ndjson, path: late }
  totals: { type: duckdb, input: pacing, path: warehouse.duckdb, table: pacing }
  late_pacing: { type: files, input: late_pacing, format: ndjson, path: late_pacing }
resources: { chunk: ${LONG ? '200kB' : '100kB'}, threads: 1 }
`

/** Each run has one thread of the engine: two share two cores. */
const killed = LONG ? it.concurrent : it
killed.each(Array.from({ length: SEEDS }, () => randomInt(1_000_000_000)))(
  `killed ${KILLS} times over ${EVENTS} events in disorder (seed %i)`,
  async (seed) => {
    const folder = temporaryFolder('windows')
    const job = new SmallJob(folder.path, JOB)
    const draw = generator(seed)
    const wanted = join(folder.path, 'wanted.ndjson')
    const lanes: { arrives: number; line: string }[][] = Array.from({ length: LANES }, () => [])
    const all: string[] = []
    for (let id = 0; id < EVENTS; id += 1) {
      const t = START + id * 20
      const line = `{"id":${id},"campaign":"c${draw() % 5}","t":"${new Date(t).toISOString().slice(0, -1)}","cost":"${draw() % 1000}.25"}`
      all.push(line)
      const lane = lanes[draw() % LANES] ?? []
      lane.push({ arrives: t + (draw() % LATENESS_MS), line })
      if (draw() % 50 === 0) lane.push({ arrives: t + (draw() % LATENESS_MS), line })
    }
    writeFileSync(wanted, `${all.join('\n')}\n`)
    lanes.forEach((lane, index) => {
      const lines = lane.sort((a, b) => a.arrives - b.arrives).map(({ line }) => line)
      job.put(`data/${index}.ndjson`, `${lines.join('\n')}\n`)
    })

    let kills = 0
    for (let kill = 0; kill < KILLS; kill += 1) {
      const before = job.closedBatches()
      const result = await job.run([], {
        started: job.onceClosed(before + (draw() % 4), (child) => child.kill('SIGKILL')),
      })
      if (result.signal === 'SIGKILL') kills += 1
    }
    expect(kills).toBeGreaterThan(0)
    expect((await job.run()).json<RunSummary>()).toMatchObject({ exit: 0, unaccounted: 0 })
    // Silence closes what is open, when the lanes have had the time to settle; killed as its batch begins, and while that comes again.
    job.put('job.yaml', JOB.replaceAll('idle: 1h', 'idle: 200ms'))
    const planned = () => job.checkpointText().includes('"_idle"')
    const runs = () => job.events('run_started')
    const before = runs()
    const soon = (ms: number) => (child: ChildProcess) => setTimeout(() => child.kill('SIGKILL'), draw() % ms)
    for (const started of [job.once(planned, soon(150)), job.once(() => runs() > before + 1, soon(200))])
      expect((await job.run(FOREVER, { started })).signal).toBe('SIGKILL')
    const closed = () => job.events('batch_closed', '"_idle"') > 0
    const summary = (
      await job.run(FOREVER, { started: job.once(closed, (child) => child.kill('SIGTERM')) })
    ).json<RunSummary>()
    expect(summary).toMatchObject({ exit: 0, unaccounted: 0 })

    const columns = "strftime(window_start, '%H:%M') AS w, campaign, n, ids, spend::VARCHAR AS spend"
    const expected = await duckdbRows(
      `SELECT ${columns} FROM (SELECT time_bucket(INTERVAL 1 MINUTE, t) AS window_start, campaign, count(*) AS n, count(DISTINCT id) AS ids, sum(cost) AS spend FROM read_json('${wanted}', columns = {id: 'BIGINT', campaign: 'VARCHAR', t: 'TIMESTAMP', cost: 'DECIMAL(18,6)'}) GROUP BY ALL) ORDER BY ALL`,
    )
    expect(await job.warehouse(`SELECT ${columns} FROM w.rows WHERE NOT provisional ORDER BY ALL`)).toEqual(expected)
    expect(
      await duckdbRows(
        `SELECT ${columns} FROM read_json('${folder.path}/archive/**/*.ndjson', columns = {window_start: 'TIMESTAMP', campaign: 'VARCHAR', n: 'BIGINT', ids: 'BIGINT', spend: 'DECIMAL(38,6)', provisional: 'BOOLEAN'}) WHERE NOT provisional ORDER BY ALL`,
      ),
    ).toEqual(expected)
    // Where the higher version wins, what was told of early is gone.
    const newest = (table: string, key: string) =>
      `SELECT * FROM w.${table} QUALIFY row_number() OVER (PARTITION BY ${key} ORDER BY version DESC) = 1`
    expect(await job.warehouse('SELECT * FROM w.rows WHERE provisional LIMIT 1')).not.toEqual([])
    expect(
      await job.warehouse(`SELECT ${columns} FROM (${newest('rows', 'window_start, campaign')}) ORDER BY ALL`),
    ).toEqual(expected)
    const totals = "day::VARCHAR AS day, strftime(window_end, '%H:%M') AS w, campaign, n, ids, spend::VARCHAR AS spend"
    expect(
      await job.warehouse(
        `SELECT ${totals}, provisional FROM (${newest('pacing', 'day, window_end, campaign')}) ORDER BY ALL`,
      ),
    ).toEqual(
      await duckdbRows(
        `SELECT ${totals}, false AS provisional FROM (SELECT day, s.window_end, campaign, count(*) AS n, count(DISTINCT id) AS ids, sum(cost) AS spend FROM (SELECT DISTINCT day, campaign, window_end FROM (${stepsOf(wanted)})) s JOIN (${stepsOf(wanted)}) e USING (day, campaign) WHERE e.window_end <= s.window_end GROUP BY ALL) ORDER BY ALL`,
      ),
    )
    const events = `read_json('${wanted}', columns = {id: 'BIGINT', t: 'TIMESTAMP', cost: 'DECIMAL(18,6)'})`
    const missed = 'SELECT l.id, r.id AS other, r.cost AS price, false AS correction'
    const pairs = `${missed} FROM (FROM ${events} WHERE id % 2 = 0) l LEFT JOIN (FROM ${events} WHERE id % 2 = 1 AND id % 10 < 9) r ON l.id // 2 = r.id // 4 AND r.t BETWEEN l.t AND l.t + INTERVAL 10 MINUTE`
    const joined = 'SELECT id, other, price, correction FROM w.pairs'
    expect(
      await job.warehouse(`(${pairs} EXCEPT ALL ${joined}) UNION ALL (${joined} EXCEPT ALL ${pairs}) LIMIT 5`),
    ).toEqual([])
    expect(
      await job.warehouse('SELECT count(other) > 1000 AS many, count(*) > count(other) AS alone FROM w.pairs'),
    ).toEqual([{ many: true, alone: true }])
    const told = () =>
      duckdbRows(
        `SELECT id, cost, window_start FROM read_json('${folder.path}/late/**/*.ndjson', columns = {id: 'BIGINT', cost: 'VARCHAR', window_start: 'TIMESTAMP'}) ORDER BY id`,
      )
    appendFileSync(
      join(folder.path, 'data/0.ndjson'),
      `{"id":-9,"campaign":"c1","t":"2026-01-05T15:56:59","cost":"0.5"}\n`,
    )
    expect((await job.run()).json<RunSummary>()).toMatchObject({ exit: 0, unaccounted: 0 })
    expect(await told()).toEqual([{ id: '-9', cost: '0.500000', window_start: '2026-01-05 15:56:00' }])
    folder.remove()
  },
)

/** The minute of each event, and the day in Shanghai, where no clock is ever changed. */
function stepsOf(file: string): string {
  return `SELECT *, (t + INTERVAL 8 HOUR)::DATE AS day, time_bucket(INTERVAL 1 MINUTE, t) + INTERVAL 1 MINUTE AS window_end FROM read_json('${file}', columns = {id: 'BIGINT', campaign: 'VARCHAR', t: 'TIMESTAMP', cost: 'DECIMAL(18,6)'})`
}

/** Numbers that are the same for a seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}
