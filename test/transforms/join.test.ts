import { randomInt } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { IDLE } from '../../src/engine/sequence.ts'
import { literal } from '../../src/engine/sql-text.ts'
import join from '../../src/transforms/join.ts'
import { type Row, STEP_PATH, StepBench } from '../harness/step.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const SEEDS = LONG ? 20 : 1
const EVENTS = LONG ? 10_000 : 900
const COLUMNS = { id: 'BIGINT', side: 'VARCHAR', k: 'BIGINT', t: 'TIMESTAMP', cost: 'DECIMAL(18, 6)' }
const LATENESS_S = 30

let bench: StepBench
beforeEach(async () => {
  bench = await StepBench.open()
  await clock('2030-01-01 00:00:00')
})
afterEach(() => bench.close())

/** now() as the runtime sets it for each batch. */
const clock = (time: string) => bench.session.run(`CREATE OR REPLACE TEMP MACRO now() AS ${literal(time)}::TIMESTAMPTZ`)

async function pass(options: object, number: number, rows: readonly Row[], lane = 'lane') {
  const input = await bench.input(COLUMNS, rows)
  const step = await bench.compile(join, options, input, 'j')
  const run = await bench.run(step, input, number, lane)
  const [branch] = step.branches ?? []
  const aside =
    branch === undefined
      ? []
      : await bench.rows(`SELECT * EXCLUDE (__row) FROM (${branch.relation.sql.replaceAll('$seq', String(number))})`)
  return { ...run, aside }
}

const at = (second: number) =>
  new Date(Date.UTC(2026, 0, 5, 12, 0, 0) + second * 1000).toISOString().replace('T', ' ').replace('Z', '')
const click = (second: number, k: number | null, more: Row = {}): Row => ({
  id: second,
  side: 'click',
  k,
  t: at(second),
  cost: '0',
  ...more,
})
const show = (second: number, k: number | null, more: Row = {}): Row => ({
  id: second,
  side: 'show',
  k,
  t: at(second),
  cost: '1',
  ...more,
})
const other = (second: number): Row => ({ id: second, side: 'other', k: 0, t: at(second), cost: '0' })

const base = {
  left: { where: "side = 'click'" },
  right: { where: "side = 'show'" },
  on: ['k'],
  time: 't',
  within: { before: '60s', after: '10s' },
  lateness: '10s',
  settle: '0s',
  select: { shown: 'id' },
}
const pairs = ({ rows }: { readonly rows: readonly Row[] }) =>
  rows.map(({ id, shown, correction }) => [id, shown, correction])

describe('a join', () => {
  test('gives a left row once with each right row that it finds, when the interval is over, ends included', async () => {
    expect(pairs(await pass(base, 1, [click(100, 1), show(40, 1), show(39, 1), show(110, 2)]))).toEqual([])
    expect(pairs(await pass(base, 2, [show(110, 1), show(111, 1), other(120)]))).toEqual([])
    expect(pairs(await pass(base, 3, [show(50, 1), { ...other(120), t: `${at(120)}001`.slice(0, 26) }]))).toEqual([
      [100, 40, false],
      [100, 110, false],
      [100, 50, false],
    ])
    expect(pairs(await pass(base, 4, [other(1000)]))).toEqual([])
  })

  test('gives NULLs for what finds nothing, leaves it out, or sets it aside', async () => {
    const rows = [click(1, 1), click(2, null), click(3, 3, { t: null }), show(1, 1), show(2, null), other(100)]
    expect(pairs(await pass(base, 1, rows))).toEqual([
      [1, 1, false],
      [2, null, false],
      [3, null, true],
    ])
    expect(pairs(await pass({ ...base, missing: 'drop', select: { shown: 'id', more: 't' } }, 1, rows))).toEqual([
      [1, 1, false],
    ])
    const set = await pass({ ...base, missing: { to: 'lonely' }, select: { shown: 'id', much: 'cost' } }, 1, rows)
    expect(pairs(set)).toEqual([[1, 1, false]])
    expect(set.aside.map(({ id, k, correction }) => [id, k, correction])).toEqual([
      [2, null, false],
      [3, 3, true],
    ])
  })

  test('gives what comes too late as corrections: left rows with what is kept, right rows with left ones that are gone', async () => {
    await pass(base, 1, [show(0, 1), click(5, 1), click(6, 2)])
    expect(pairs(await pass(base, 2, [other(100)]))).toEqual([
      [5, 0, false],
      [6, null, false],
    ])
    expect(pairs(await pass(base, 3, [click(7, 1), show(1, 2), show(2, 1), click(8, 9)]))).toEqual([
      [5, 2, true],
      [6, 1, true],
      [7, 0, true],
      [7, 2, true],
      [8, null, true],
    ])
    expect(pairs(await pass(base, 4, [other(200)]))).toEqual([])
  })

  test('comes again as it was with a batch that is repeated, after others too', async () => {
    await pass(base, 1, [show(0, 1), click(5, 1)])
    const closing = [other(100), click(6, 1), show(3, 1)]
    const once = await pass(base, 2, closing)
    expect(once.rows).toHaveLength(4)
    await pass(base, 3, [show(1, 1), click(7, 1)])
    expect((await pass(base, 2, closing)).rows).toEqual(once.rows)
    expect(pairs(await pass(base, 4, [other(300)]))).toEqual([])
  })

  test('gives left rows whose time is over with a batch without a record, when all lanes are silent', async () => {
    const options = { ...base, lateness: '0s', idle: '5s' }
    await clock('2026-01-05 12:00:01')
    expect((await pass(options, 1, [click(0, 1), show(-50, 1)])).rows).toEqual([])
    const { state } = await bench.compile(join, options, await bench.input(COLUMNS), 'j')
    const due = () => bench.session.value(`SELECT (${state?.idle?.due})::VARCHAR`)
    expect(await due()).toBe('2026-01-05 12:00:10.000001')
    await clock('2026-01-05 12:00:11')
    expect((await pass(options, 2, [], IDLE)).rows).toHaveLength(1)
    expect(await due()).toBeNull()
  })

  test('waits for the lane that is furthest behind; a batch without times moves nothing', async () => {
    await pass(base, 1, [click(5, 1)], 'a')
    await pass(base, 2, [{ ...other(0), t: null }], 'b')
    expect(pairs(await pass(base, 3, [show(3, 1)], 'b'))).toEqual([])
    expect(pairs(await pass(base, 4, [other(100)], 'a'))).toEqual([])
    expect(pairs(await pass(base, 5, [other(50)], 'b'))).toEqual([[5, 3, false]])
  })

  test('forgets what nothing can find any more, behind the batches that may be repeated', async () => {
    const input = await bench.input(COLUMNS, [show(0, 1), click(1, 1)])
    const step = await bench.compile(join, base, input, 'j')
    for (let batch = 0; batch < 130; batch += 1) {
      await bench.prepare(step, input, batch)
      await bench.session.run(`UPDATE ${input.table} SET t = t + INTERVAL 1 MINUTE`)
    }
    const [left, right, seen] = (step.state?.tables ?? []).map((ddl) => /EXISTS (\S+)/.exec(ddl)?.[1])
    expect(await bench.count(`FROM ${left}`)).toBeLessThan(106)
    expect(await bench.count(`FROM ${right}`)).toBeLessThan(106)
    expect(await bench.count(`FROM ${seen}`)).toBeLessThan(106)
  })
})

test.each(Array.from({ length: SEEDS }, () => randomInt(1_000_000_000)))(
  `has the rows of one SQL statement, whatever the disorder (seed %i)`,
  async (seed) => {
    await bench.session.run(`SELECT setseed(${(seed % 1000) / 1000})`)
    await bench.session.run(
      `CREATE TEMP TABLE events AS SELECT i AS id, (['click', 'show', 'show', 'other'])[1 + (random() * 4)::INT % 4] AS side, CASE WHEN random() < 0.95 THEN (random() * 40)::BIGINT END AS k,
         TIMESTAMP '2026-01-05 12:00:00' + to_microseconds((i * 1e5)::BIGINT + (random() * 1000)::BIGINT) AS t, (random() * 100)::DECIMAL(18, 6) AS cost, (random() * 2)::INT AS lane, random() AS r FROM range(${EVENTS}) s(i)`,
    )
    const options = { ...base, lateness: `${LATENESS_S}s`, within: '20s', select: { shown: 'id', much: 'cost' } }
    const step = await bench.compile(join, options, await bench.input(COLUMNS), 'j')
    await bench.session.run(
      `CREATE TEMP TABLE found (id BIGINT, shown BIGINT, much DECIMAL(18, 6), correction BOOLEAN)`,
    )
    const arrival = `SELECT *, ntile(${Math.ceil(EVENTS / 90)}) OVER (ORDER BY t + to_microseconds((r * ${LATENESS_S * 1e6})::BIGINT)) AS batch FROM events`
    await bench.session.run(`CREATE TEMP TABLE arriving AS ${arrival}`)
    let number = 0
    const columns = Object.keys(COLUMNS).join(', ')
    for (let batch = 1; batch <= Math.ceil(EVENTS / 90) + 1; batch += 1)
      for (const lane of [0, 1, 2]) {
        const rows =
          batch > Math.ceil(EVENTS / 90)
            ? `SELECT 0 AS __row, -1 AS id, 'end' AS side, 0 AS k, TIMESTAMP '2027-01-01' AS t, 0 AS cost`
            : `SELECT row_number() OVER () - 1 AS __row, ${columns} FROM arriving WHERE batch = ${batch} AND lane = ${lane}`
        const input = await bench.inputOf(COLUMNS, rows)
        const own = await bench.compile(join, options, input, 'j')
        number += 1
        const { output } = await bench.prepare(own, input, number, String(lane))
        await bench.session.run(`INSERT INTO found SELECT id, shown, much, correction FROM (${output})`)
      }
    const wanted = `SELECT l.id, r.id AS shown, r.cost AS much, false AS correction FROM (FROM events WHERE side = 'click') l LEFT JOIN (FROM events WHERE side = 'show') r
      ON l.k = r.k AND r.t BETWEEN l.t - INTERVAL 20 SECOND AND l.t + INTERVAL 20 SECOND`
    expect(step.branches).toBeUndefined()
    expect(await bench.count(`FROM found`)).toBeGreaterThan(EVENTS / 5)
    expect(
      await bench.rows(`(${wanted} EXCEPT ALL FROM found) UNION ALL (FROM found EXCEPT ALL (${wanted})) LIMIT 5`),
    ).toEqual([])
  },
)

test.each([
  ['a condition that is none', { left: { where: 'k' } }, ['left', 'where'], /true or false/],
  ['text against a number', { on: { side: 'k' } }, ['on', 'side'], /cannot join side/],
  ['an unknown column', { select: ['nme'] }, ['select', 0], /nme.*right rows/],
  ['a time that is none', { time: 'k' }, ['time'], /needs a timestamp/],
  ['a column that is there', { select: ['cost'] }, ['select'], /two columns/],
])('refuses %s', async (_, options, place, message) => {
  const input = await bench.input(COLUMNS)
  await expect(bench.compile(join, { ...base, ...options }, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, ...place] },
  })
})
