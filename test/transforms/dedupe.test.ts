import { randomInt } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ROW } from '../../src/engine/relation.ts'
import { literal } from '../../src/engine/sql-text.ts'
import dedupe from '../../src/transforms/dedupe.ts'
import { type Row, STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeEach(async () => {
  bench = await StepBench.open()
  await clock('2030-01-01')
})
afterEach(() => bench.close())

/** now() as the runtime sets it for each batch. */
const clock = (day: string) => bench.session.run(`CREATE OR REPLACE TEMP MACRO now() AS ${literal(day)}::TIMESTAMPTZ`)

const columns = { k: 'VARCHAR', t: 'TIMESTAMP' }
const within = { key: ['k'], within: '1d', time: 't' }

/** One batch through a step whose state lasts; gives the ROWs that are kept. */
async function kept(options: unknown, number: number, rows: readonly Row[], types: Record<string, string> = columns) {
  const input = await bench.input(types, rows)
  const step = await bench.compile(dedupe, options, input, 'd')
  const { output, drops } = await bench.prepare(step, input, number)
  const rowsKept = await bench.ordinals(output)
  const dropped = await bench.ordinals(drops ?? '')
  expect([...rowsKept, ...dropped].sort((a, b) => a - b)).toEqual(rows.map((_, index) => index))
  expect(step.drops?.as).toBe('deduplicated')
  return rowsKept
}

const day = (k: string | null, date: number, hour = 0): Row => ({
  k,
  t: `2026-01-${String(date).padStart(2, '0')} ${String(hour).padStart(2, '0')}:00:00`,
})

test.each([['without within', { key: ['k'] }] as const, ['with within', within] as const])(
  '%s: keeps the first of a batch and none that another batch has kept',
  async (_, options) => {
    expect(await kept(options, 10, [day('a', 1), day('b', 1), day('a', 1)])).toEqual([0, 1])
    expect(await kept(options, -3, [day('b', 1), day('c', 1), day('c', 1), day('a', 1)])).toEqual([1])
    expect(await kept(options, 5, [day('c', 1)])).toEqual([])
  },
)

test.each([['without within', { key: ['k'] }] as const, ['with within', within] as const])(
  '%s: a batch that is repeated, even after others, keeps what it kept',
  async (_, options) => {
    const first = [day('a', 1), day('b', 1), day('a', 1), day('a', 5)]
    const firstKept = await kept(options, 1, first)
    const secondKept = await kept(options, 2, [day('a', 3), day('c', 1)])
    expect(await kept(options, 1, first)).toEqual(firstKept)
    expect(await kept(options, 1, first)).toEqual(firstKept)
    expect(await kept(options, 2, [day('a', 3), day('c', 1)])).toEqual(secondKept)
  },
)

test.each([['without within', { key: ['k'] }] as const, ['with within', within] as const])(
  '%s: a batch that is repeated with other rows, because the job was mended, loses none',
  async (_, options) => {
    expect(await kept(options, 1, [day('a', 1), day('b', 1), day('a', 1)])).toEqual([0, 1])
    const input = await bench.input(columns, [day('a', 1), day('b', 1), day('a', 1), day('new', 1)])
    await bench.session.run(`DELETE FROM ${input.table} WHERE ${ROW} = 0`)
    const step = await bench.compile(dedupe, options, input, 'd')
    expect(await bench.ordinals((await bench.prepare(step, input, 1)).output)).toEqual([1, 2, 3])
  },
)

test('NULL in a key or in the time is never a duplicate, nor is a time beyond the calendar', async () => {
  const rows = [day(null, 1), day(null, 1), { k: 'a', t: null }, { k: 'a', t: null }, { k: 'a', t: 'infinity' }]
  expect(await kept(within, 1, rows)).toEqual([0, 1, 2, 3, 4])
  expect(await kept(within, 2, rows)).toEqual([0, 1, 2, 3, 4])
  expect(await kept({ key: ['k', 't'] }, 3, rows)).toEqual([0, 1, 2, 3, 4])
})

test('records of one key further apart than within are different ones, in either direction and inside one batch', async () => {
  const rows = [
    day('a', 10),
    day('a', 11),
    day('a', 11, 1),
    day('a', 12, 1),
    day('a', 12, 2),
    day('a', 9),
    day('a', 8, 23),
  ]
  expect(await kept(within, 1, rows)).toEqual([0, 2, 4, 6])
  expect(await kept(within, 2, [day('a', 7, 22), day('a', 7, 23), day('a', 13, 3), day('a', 13, 2)])).toEqual([0, 2])
})

test('keys of several columns, beyond 2^53, with names that need quotes', async () => {
  const types = { 'id "x"': 'BIGINT', 名: 'VARCHAR', d: 'DATE' }
  const row = (id: string, name: string): Row => ({ 'id "x"': id, 名: name, d: '2026-01-01' })
  const options = { key: ['ID "x"', '名'], within: '30d', time: 'd' }
  const rows = [row('9007199254740993', '李'), row('9007199254740992', '李'), row('9007199254740993', '雷')]
  expect(await kept(options, 1, rows, types)).toEqual([0, 1, 2])
  expect(await kept(options, 2, [...rows, row('9007199254740994', '李')], types)).toEqual([3])
})

test('forgets marks that lie behind within + lateness, a hundred batches later', async () => {
  const step = await bench.compile(dedupe, { ...within, lateness: '1d' }, await bench.input(columns), 'd')
  const marks = () => bench.session.value(`SELECT count(*) FROM ${/FROM (state\S+) WHERE/.exec(step.output.sql)?.[1]}`)
  for (let number = 1; number <= 103; number++)
    await kept({ ...within, lateness: '1d' }, number, [day(`k${number}`, 1 + Math.floor(number / 10))])
  expect(await marks()).toBe(103n)
  for (let number = 104; number <= 150; number++)
    await kept({ ...within, lateness: '1d' }, number, [day(`k${number}`, 1 + Math.floor(number / 10))])
  expect(Number(await marks())).toBeLessThan(150)
  expect(step.state?.bounded).toBe(true)
})

test('one record from the future forgets nothing', async () => {
  const late = [day('a', 1), day('b', 1), day('c', 1)]
  await kept(within, 1, late)
  await kept(within, 2, [{ k: 'future', t: '2099-01-01 00:00:00' }, day('x', 1), day('y', 1)])
  expect(await kept(within, 3, late)).toEqual([])
})

test('a batch of nothing but records from the future reaches no further than its clock', async () => {
  await clock('2026-01-01')
  await kept(within, 1, [day('a', 1)])
  await kept(within, 2, [{ k: 'future', t: '2099-01-01 00:00:00' }])
  expect(await kept(within, 3, [day('a', 1)])).toEqual([])
})

test('another type of the key starts with an empty memory; state is bounded only with within', async () => {
  expect(await kept({ key: ['k'] }, 1, [{ k: '1' }], { k: 'VARCHAR' })).toEqual([0])
  expect(await kept({ key: ['k'] }, 2, [{ k: 1 }], { k: 'BIGINT' })).toEqual([0])
  const step = await bench.compile(dedupe, { key: ['k'] }, await bench.input(columns), 'd')
  expect(step.state).toMatchObject({ bounded: false, bytesPerRow: expect.any(Number) })
})

const seed = randomInt(1_000_000)

test(`decides as a program that looks at one record after the other (seed ${seed})`, async () => {
  const types = { k: 'INTEGER', t: 'TIMESTAMP' }
  const hours = 10
  const accepted = new Map<string, number[]>()
  const batches: { rows: Row[]; expected: number[] }[] = []
  for (let batch = 0; batch < 8; batch++) {
    const rows = await bench.rows(
      `SELECT CASE WHEN hash(i, ${batch}, ${seed}) % 20 > 0 THEN hash(i, ${batch}, ${seed}, 1) % 5 END::INTEGER AS k,
         TIMESTAMP '2026-01-01' + to_hours((hash(i, ${batch}, ${seed}, 2) % 100 + ${batch} * 20)::BIGINT) AS t
       FROM range(60) t(i) ORDER BY i`,
    )
    batches.push({ rows, expected: greedy(rows, accepted, hours) })
    const options = { key: ['k'], within: `${hours}h`, time: 't', lateness: '30d' }
    expect(await kept(options, batch * 17 - 40, rows, types)).toEqual(batches[batch]?.expected)
    const again = Math.floor(batch / 2)
    expect(await kept(options, again * 17 - 40, batches[again]?.rows ?? [], types)).toEqual(batches[again]?.expected)
  }
})

/** ROWs that are kept; adds their times to `accepted`. */
function greedy(rows: readonly Row[], accepted: Map<string, number[]>, hours: number): number[] {
  return rows.flatMap((row, index) => {
    if (row['k'] === null) return [index]
    const times = accepted.get(String(row['k'])) ?? []
    const time = Date.parse(`${row['t']}Z`)
    if (times.some((other) => Math.abs(other - time) <= hours * 3_600_000)) return []
    accepted.set(String(row['k']), [...times, time])
    return [index]
  })
}

test.each([
  ['an unknown key', { key: ['kk'] }, ['key', 0], /kk/],
  ['a key named twice', { key: ['k', 'K'] }, ['key'], /twice/],
  ['an unknown time', { key: ['k'], within: '1h', time: 'tt' }, ['time'], /tt/],
  ['a time that is none', { key: ['k'], within: '1h', time: 'k' }, ['time'], /VARCHAR/],
])('refuses %s', async (_, options, place, message) => {
  const input = await bench.input(columns)
  await expect(bench.compile(dedupe, options, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, ...place] },
  })
})

test.each([
  [{ key: [] }],
  [{ key: ['k'], within: '7d' }],
  [{ key: ['k'], time: 't' }],
  [{ key: ['k'], lateness: '1d' }],
  [{ key: ['k'], within: '7 moons', time: 't' }],
  [{ key: ['k'], within: '9999w', time: 't' }],
])('options refuse %j', (options) => {
  expect(dedupe.options.safeParse(options).success).toBe(false)
})
