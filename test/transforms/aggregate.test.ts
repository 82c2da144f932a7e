import { afterAll, beforeAll, expect, test } from 'vitest'
import aggregate from '../../src/transforms/aggregate.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

test('NULL is a group of its own and is no value to aggregates', async () => {
  const { rows, step } = await bench.outcome(
    aggregate,
    { by: ['c'], select: { n: 'count(*)', values: 'count(v)', total: 'sum(v)' } },
    { c: 'VARCHAR', v: 'INTEGER' },
    [
      { c: 'b', v: 1 },
      { c: null, v: 2 },
      { c: 'b', v: null },
    ],
  )
  expect(rows).toEqual([
    { c: 'b', n: 2, values: 1, total: 1 },
    { c: null, n: 1, values: 1, total: 2 },
  ])
  expect(step.kind).toBe('set')
})

test('without groups all rows are one, and no rows are none', async () => {
  const options = { select: { n: 'count(*)' } }
  expect((await bench.outcome(aggregate, options, { a: 'INTEGER' }, [{ a: 1 }, { a: 1 }])).rows).toEqual([{ n: 2 }])
  expect((await bench.outcome(aggregate, options, { a: 'INTEGER' }, [])).rows).toEqual([])
})

test('sums are exact for decimals and beyond 2^63', async () => {
  const { rows } = await bench.outcome(
    aggregate,
    { select: { spend: 'sum(spend)', ids: 'sum(id)' } },
    { spend: 'DECIMAL(18, 6)', id: 'BIGINT' },
    Array.from({ length: 3 }, () => ({ spend: '0.1', id: '9223372036854775807' })),
  )
  expect(rows).toEqual([{ spend: '0.300000', ids: '27670116110564327421' }])
})

test('an output name may hide an input name', async () => {
  const { rows } = await bench.outcome(
    aggregate,
    { by: [{ v: 'v % 2' }], select: { c: 'max(c)', 'höchste "v"': 'max(v)' } },
    { c: 'INTEGER', v: 'INTEGER' },
    [
      { c: 5, v: 1 },
      { c: 6, v: 3 },
      { c: 7, v: 2 },
    ],
  )
  expect(rows).toEqual([
    { v: 0, c: 7, 'höchste "v"': 2 },
    { v: 1, c: 6, 'höchste "v"': 3 },
  ])
})

test('lineage of groups and aggregates; group expressions are isolated where they fail', async () => {
  const options = { by: ['a', { day: 't::DATE' }], select: { n: 'count(*)', s: 'sum(v)' } }
  const { rows, failed, step } = await bench.outcome(aggregate, options, { a: 'INTEGER', t: 'VARCHAR', v: 'INTEGER' }, [
    { a: 1, t: '2026-01-01', v: 1 },
    { a: 1, t: 'soon', v: 1 },
  ])
  expect(rows).toEqual([{ a: 1, day: '2026-01-01', n: 1, s: 1 }])
  expect(failed).toEqual([{ row: 1, field: 'day' }])
  expect(step.output.columns.map(({ from }) => from)).toEqual([['a'], ['t'], [], ['v']])
})

test.each([
  ['a group that is no column', { by: ['date_trunc'], select: { n: 'count(*)' } }, ['by', 0], /no column/],
  ['an aggregate as group', { by: [{ g: 'sum(a)' }], select: { n: 'count(*)' } }, ['by', 0, 'g'], /aggregate/],
  ['a column without aggregate', { by: ['a'], select: { b: 'b' } }, ['select', 'b'], /aggregate/],
  ['a window', { by: ['a'], select: { b: 'sum(b) OVER ()' } }, ['select', 'b'], /aggregate|window/],
  ['an unknown column', { by: ['a'], select: { b: 'sum(c)' } }, ['select', 'b'], /c/],
  ['one name twice', { by: ['a'], select: { A: 'sum(b)' } }, ['select', 'A'], /two columns/],
])('refuses %s', async (_, options, place, message) => {
  const input = await bench.input({ a: 'INTEGER', b: 'INTEGER' })
  await expect(bench.compile(aggregate, options, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, ...place] },
  })
})
