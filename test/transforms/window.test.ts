import { randomInt } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { CompiledStep } from '../../src/core/step-contract.ts'
import { bindSequence, IDLE } from '../../src/engine/sequence.ts'
import { literal } from '../../src/engine/sql-text.ts'
import window from '../../src/transforms/window.ts'
import { type Row, StepBench } from '../harness/step.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const SEEDS = LONG ? 20 : 2
const EVENTS = LONG ? 10_000 : 900
const COLUMNS = { id: 'BIGINT', campaign: 'VARCHAR', t: 'TIMESTAMP', cost: 'DECIMAL(18, 6)', user: 'BIGINT' }
const LATENESS_S = 30
const SELECT = { n: 'count(*)', spend: 'sum(cost)', users: 'count(DISTINCT "user")', most: 'max(cost)' }

let bench: StepBench
beforeEach(async () => {
  bench = await StepBench.open()
  await clock('2030-01-01 00:00:00')
})
afterEach(() => bench.close())

/** now() as the runtime sets it for each batch. */
const clock = (time: string) => bench.session.run(`CREATE OR REPLACE TEMP MACRO now() AS ${literal(time)}::TIMESTAMPTZ`)

/** By which clock a batch without a record closes a window. */
async function due(): Promise<unknown> {
  const { state } = await bench.compile(window, minute, await bench.input(COLUMNS), 'w')
  return bench.session.value(`SELECT (${state?.idle?.due})::VARCHAR`)
}

async function pass(options: object, number: number, rows: readonly Row[], lane = 'lane') {
  const input = await bench.input(COLUMNS, rows)
  const step = await bench.compile(window, options, input, 'w')
  return (await bench.run(step, input, number, lane)).rows
}

const event = (second: number, more: Row = {}): Row => ({
  id: 1,
  campaign: 'a',
  t: new Date(Date.UTC(2026, 0, 5, 12, 0, 0) + second * 1000).toISOString().replace('T', ' ').replace('Z', ''),
  cost: '1',
  user: 1,
  ...more,
})
const counts = (rows: readonly Row[]) =>
  rows.map(({ window_start, n, correction }) => [String(window_start).slice(14, 19), n, correction])

const minute = { time: 't', every: '1m', lateness: '10s', settle: '0s', select: { n: 'count(*)' } }

describe('a window', () => {
  test('is given once, when the watermark has passed its end, with the rows of all batches', async () => {
    expect(counts(await pass(minute, 1, [event(0), event(59)]))).toEqual([])
    expect(counts(await pass(minute, 2, [event(69), event(5)]))).toEqual([])
    expect(counts(await pass(minute, 3, [event(70)]))).toEqual([['00:00', 3, false]])
    expect(counts(await pass(minute, 4, [event(71)]))).toEqual([])
    expect(counts(await pass(minute, 5, [event(400)]))).toEqual([['01:00', 3, false]])
  })

  test('waits for the lane that is furthest behind, unless nothing has come of it for long', async () => {
    await clock('2026-01-05 12:10:00')
    await pass(minute, 1, [event(0)], 'a')
    expect(counts(await pass(minute, 2, [event(100)], 'b'))).toEqual([])
    expect(counts(await pass(minute, 3, [event(50)], 'a'))).toEqual([])
    expect(counts(await pass(minute, 4, [event(80)], 'a'))).toEqual([['00:00', 2, false]])
    await clock('2026-01-05 12:12:00')
    expect(counts(await pass(minute, 5, [event(200)], 'b'))).toEqual([['01:00', 2, false]])
  })

  test('is closed by a batch without a record, by its clock less the lateness, once no lane holds it; what comes then is late', async () => {
    const silent = async (number: number, time: string) => {
      await clock(time)
      return counts(await pass(minute, number, [], IDLE))
    }
    expect(await silent(1, '2026-01-05 12:00:00')).toEqual([])
    await clock('2026-01-05 12:01:02')
    expect(counts(await pass(minute, 2, [event(5)], 'a'))).toEqual([])
    expect(await due()).toBe('2026-01-05 12:01:10')
    expect(await silent(3, '2026-01-05 12:01:30')).toEqual([])
    expect(await silent(4, '2026-01-05 12:02:02.001')).toEqual([['00:00', 1, false]])
    expect(await due()).toBeNull()
    expect(counts(await pass(minute, 5, [event(50), event(111)], 'a'))).toEqual([['00:00', 1, true]])
    expect(await silent(4, '2026-01-05 12:02:02.001')).toEqual([['00:00', 1, false]])
    expect(await due()).toBe('2026-01-05 12:02:10')
  })

  test('gives what comes too late, and what has no time, in rows of their own', async () => {
    await pass(minute, 1, [event(0)])
    await pass(minute, 2, [event(200)])
    expect(counts(await pass(minute, 3, [event(1), event(2), event(201), event(0, { t: null })]))).toEqual([
      ['00:00', 2, true],
      ['', 1, true],
    ])
    expect(counts(await pass(minute, 4, [event(400)]))).toEqual([['03:00', 2, false]])
  })

  test.each([
    ['tumbling', { every: '1m' }, ['1 12:00:00', '2 12:00:00', '3 12:02:00', '4'], 4],
    [
      'hopping',
      { every: '1m', size: '2m' },
      ['1 11:59:00', '1 12:00:00', '2 11:59:00', '2 12:00:00', '3 12:01:00', '4'],
      9,
    ],
    ['session', { gap: '5s' }, ['1', '2', '3', '4'], 4],
  ])('sets aside what comes too late, whole, where an output is named for it: %s', async (_, kind, told, counted) => {
    const chosen = { ...minute, every: undefined, ...kind, late: { to: 'late' } }
    const late: string[] = []
    let closed = 0
    const take = async (number: number, rows: readonly Row[]) => {
      const input = await bench.input(COLUMNS, rows)
      const step = await bench.compile(window, chosen, input, 'w')
      for (const { n } of (await bench.run(step, input, number)).rows) closed += Number(n)
      const aside = bindSequence(step.branches?.[0]?.relation.sql ?? '', number)
      const found = await bench.rows(aside)
      expect(found.map(({ __row }) => __row)).toEqual(found.map((__, index) => index))
      late.push(...found.map(({ id, window_start }) => `${id} ${String(window_start ?? '').slice(11, 19)}`.trim()))
    }
    await take(1, [event(0, { id: 9 })])
    await take(2, [event(200, { id: 9 })])
    const lateOnes = [event(1, { id: 1 }), event(2, { id: 2 }), event(150, { id: 3 }), event(0, { id: 4, t: null })]
    for (let time = 0; time < 2; time += 1) {
      late.length = 0
      await take(3, [...lateOnes, event(201, { id: 9 }), event(202, { id: 9 })])
      expect(late).toEqual(told)
    }
    await take(4, [event(9000, { id: 9 })])
    expect(late).toEqual(told)
    expect(closed).toBe(counted)
  })

  test('waits at the very beginning until the lanes have been heard of', async () => {
    const settling = { ...minute, settle: '10s' }
    expect(counts(await pass(settling, 1, [event(0), event(100)], 'a'))).toEqual([])
    await clock('2030-01-01 00:00:09')
    expect(counts(await pass(settling, 2, [event(0), event(90)], 'b'))).toEqual([])
    await clock('2030-01-01 00:00:10')
    expect(counts(await pass(settling, 3, [event(101)], 'a'))).toEqual([['00:00', 2, false]])
  })

  test('is not closed by an event from the future beyond the clock of its batch', async () => {
    await clock('2026-01-05 12:00:30')
    expect(counts(await pass(minute, 1, [event(0), event(86_400)]))).toEqual([])
    await clock('2026-01-05 12:01:20')
    expect(counts(await pass(minute, 2, [event(3), event(75)]))).toEqual([['00:00', 2, false]])
  })

  test('is told of early, at most so often, and for good when it closes', async () => {
    const early = { ...minute, early: '10s', late: { to: 'late' } }
    const told = (rows: readonly Row[]) =>
      rows.map(({ window_start, n, provisional }) => [String(window_start).slice(14, 19), n, provisional])
    const versions: unknown[] = []
    const at = async (second: number, number: number, rows: readonly Row[]) => {
      await clock(`2026-01-05 12:05:${String(second).padStart(2, '0')}`)
      const found = await pass(early, number, rows)
      versions.push(...new Set(found.map(({ version }) => version)))
      return told(found)
    }
    expect(await at(0, 1, [event(0), event(61)])).toEqual([
      ['00:00', 1, true],
      ['01:00', 1, true],
    ])
    expect(await at(9, 2, [event(1)])).toEqual([])
    expect(await at(10, 3, [event(62)])).toEqual([
      ['00:00', 2, true],
      ['01:00', 2, true],
    ])
    // What has no time does not move the watermark.
    expect(await at(20, 4, [event(71, { t: null })])).toEqual([])
    expect(await at(21, 5, [event(75)])).toEqual([['00:00', 2, false]])
    expect(await at(30, 6, [event(200)])).toEqual([
      ['01:00', 3, false],
      ['03:00', 1, true],
    ])
    expect(await at(20, 3, [event(62)])).toEqual([
      ['00:00', 2, true],
      ['01:00', 2, true],
    ])
    expect(versions).toEqual([...versions.slice(0, -1).sort(), versions[1]])
  })

  test('comes again as it was with a batch that is repeated, after others too', async () => {
    await pass(minute, 1, [event(0), event(30)])
    const closing = [event(100), event(3)]
    const first = await pass(minute, 2, closing)
    await pass(minute, 3, [event(300)])
    expect(counts(first)).toEqual([['00:00', 3, false]])
    expect(await pass(minute, 2, closing)).toEqual(first)
    expect(await pass(minute, 1, [event(0), event(30)])).toEqual([])
    expect(counts(await pass(minute, 4, [event(301)]))).toEqual([])
  })

  test('of one row overlaps others where it hops', async () => {
    const hop = { ...minute, size: '3m' }
    await pass(hop, 1, [event(0)])
    expect(counts(await pass(hop, 2, [event(130)]))).toEqual([
      ['58:00', 1, false],
      ['59:00', 1, false],
    ])
    expect(counts(await pass(hop, 3, [event(61), event(250)]))).toEqual([
      ['00:00', 3, false],
      ['01:00', 2, false],
      ['59:00', 1, true],
    ])
  })

  test('of a session ends when nothing has come for the gap', async () => {
    const session = {
      time: 't',
      gap: '30s',
      lateness: '10s',
      settle: '0s',
      by: ['campaign'],
      select: { n: 'count(*)' },
    }
    await pass(session, 1, [event(0), event(20), event(0, { campaign: null })])
    expect(counts(await pass(session, 2, [event(50), event(15)]))).toEqual([['00:00', 1, false]])
    expect(counts(await pass(session, 3, [event(89), event(0)]))).toEqual([['00:00', 1, true]])
    expect(counts(await pass(session, 4, [event(91)]))).toEqual([['00:00', 4, false]])
  })
})

describe.each(Array.from({ length: SEEDS }, () => randomInt(1_000_000_000)))('events in disorder (seed %i)', (seed) => {
  const reference: Readonly<Record<string, string>> = {
    tumbling: `SELECT time_bucket(INTERVAL 1 MINUTE, t) AS w, * FROM events`,
    hopping: `SELECT unnest([time_bucket(INTERVAL 1 MINUTE, t) - to_minutes(i) FOR i IN range(5)]) AS w, * FROM events`,
    session: `SELECT min(t) OVER (PARTITION BY campaign, s) AS w, * FROM (SELECT *, sum(b) OVER (PARTITION BY campaign ORDER BY t, id ROWS UNBOUNDED PRECEDING) AS s FROM (SELECT *, coalesce(t - lag(t) OVER (PARTITION BY campaign ORDER BY t, id) > INTERVAL 20 SECOND, true)::INT AS b FROM events))`,
  }
  const options: Readonly<Record<string, object>> = {
    tumbling: { every: '1m' },
    hopping: { every: '1m', size: '5m' },
    session: { gap: '20s' },
    early: { every: '1m', early: '3s', late: { to: 'late' } },
  }
  // Without a count of values, what the rows fold into is kept in their place.
  const { users: _, ...merging } = SELECT
  const selects: Readonly<Record<string, Readonly<Record<string, string>>>> = { hopping: merging, early: merging }

  test.each(['tumbling', 'hopping', 'session', 'early'])(
    '%s windows are those of one SQL statement, repeated batches or not',
    async (kind) => {
      const lanes = 3
      await bench.session.run(
        `CREATE OR REPLACE TEMP TABLE events AS SELECT i AS id, CASE WHEN hash(i, ${seed}, 1) % 20 > 0 THEN 'c' || (hash(i, ${seed}, 2) % 7) END AS campaign, TIMESTAMP '2026-01-05 12:00:00' + to_milliseconds((i * 400 + hash(i, ${seed}, 3) % 400)::BIGINT) AS t, (hash(i, ${seed}, 4) % 1000000)::DECIMAL(18, 6) AS cost, (hash(i, ${seed}, 5) % 50)::BIGINT AS user, (hash(i, ${seed}, 6) % ${lanes})::INT AS lane FROM range(${EVENTS}) r(i)`,
      )
      // Each lane in an order that is wrong by less than the lateness, cut into batches; lanes go on at about the same time.
      await bench.session.run(
        `CREATE OR REPLACE TEMP TABLE arriving AS SELECT *, (row_number() OVER (ORDER BY t + to_milliseconds((hash(id, ${seed}, 7) % ${LATENESS_S * 1000 - 1})::BIGINT)) - 1) // 97 AS batch FROM events`,
      )
      const chosen = {
        time: 't',
        lateness: `${LATENESS_S}s`,
        by: ['campaign'],
        select: selects[kind] ?? SELECT,
        ...options[kind],
      }
      const batches = Number(await bench.session.value('SELECT max(batch) FROM arriving'))
      const rows: Row[] = []
      await clock('2030-01-01 00:00:00')
      let step: CompiledStep | undefined
      const take = async (number: number, batch: number, lane: number) => {
        const input = await bench.inputOf(
          COLUMNS,
          `SELECT row_number() OVER (ORDER BY hash(id, ${seed}, 8)) - 1 AS __row, ${Object.keys(COLUMNS).map((name) => `"${name}"`)} FROM arriving WHERE batch = ${batch} AND lane = ${lane}`,
        )
        step ??= await bench.compile(window, chosen, input, kind)
        // What a batch gives does not depend on it, also where it comes again.
        bench.sweep = !bench.sweep
        return (await bench.run(step, input, number, `lane ${lane}`)).rows
      }
      for (let batch = 0; batch <= batches; batch += 1)
        for (let lane = 0; lane < lanes; lane += 1) {
          const number = batch * lanes + lane
          const found = await take(number, batch, lane)
          // As after a kill: the batch, or the one before, comes again.
          if ((number + seed) % 11 === 0) expect(await take(number, batch, lane)).toEqual(found)
          rows.push(...found)
          // By now each lane has been heard of.
          if (number >= lanes) await clock(new Date(Date.UTC(2030, 0, 1, 0, 0, 8 + number)).toISOString())
        }
      bench.sweep = true
      for (let lane = 0; lane < lanes; lane += 1) {
        const input = await bench.input(COLUMNS, [{ t: '2028-01-01 00:00:00' }])
        const last = step ?? (await bench.compile(window, chosen, input, kind))
        rows.push(...(await bench.run(last, input, 1_000_000 + lane, `lane ${lane}`)).rows)
      }
      expect(rows.filter(({ correction }) => correction)).toEqual([])
      const given = kind === 'early' ? newest(rows) : rows
      if (kind === 'early') expect(given.length).toBeLessThan(rows.length / 2)
      const wanted = await bench.rows(
        `SELECT w::VARCHAR AS w, campaign, ${Object.entries(selects[kind] ?? SELECT).map(([name, sql]) => `${sql} AS ${name}`)} FROM (${reference[kind] ?? reference['tumbling']}) GROUP BY 1, 2`,
      )
      const names = ['campaign', ...Object.keys(selects[kind] ?? SELECT)]
      const text = (row: Row) => JSON.stringify([row['w'] ?? row['window_start'], ...names.map((name) => row[name])])
      expect(given.map(text).sort()).toEqual(wanted.map(text).sort())
    },
  )
})

/** What a store has that merges by window and group, and lets the higher version win. */
function newest(rows: readonly Row[]): Row[] {
  const merged = new Map<string, Row>()
  for (const row of rows) {
    const key = JSON.stringify([row['window_start'], row['campaign']])
    const before = merged.get(key)
    if (before === undefined || Number(before['version']) < Number(row['version'])) merged.set(key, row)
  }
  expect([...merged.values()].filter(({ provisional }) => provisional)).toEqual([])
  return [...merged.values()]
}

test('state does not grow with what has passed', async () => {
  const input = await bench.input(COLUMNS)
  const step = await bench.compile(window, minute, input, 'w')
  const tables = step.state?.tables ?? []
  const names = tables.map((ddl) => /EXISTS (\S+) /.exec(ddl)?.[1])
  for (let number = 0; number <= 150; number += 1)
    await bench.run(step, await bench.input(COLUMNS, [event(number * 30)]), number, `lane ${number % 2}`)
  const sizes = await Promise.all(names.map((name) => bench.count(`SELECT * FROM ${name}`)))
  expect(Math.max(...sizes)).toBeLessThan(120)
}, 180_000)
