import { afterAll, beforeAll, expect, test } from 'vitest'
import filter from '../../src/transforms/filter.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

const columns = { id: 'BIGINT', text: 'VARCHAR' }
const rows = [
  { id: '9007199254740993', text: 'a' },
  { id: '9007199254740992', text: 'b' },
  { id: null, text: 'c' },
]

test.each([['id = 9007199254740993'], [{ where: 'id = 9007199254740993 -- just this', id: 'one' }]])(
  'keeps what is true, drops what is false or NULL: %j',
  async (options) => {
    const run = await bench.outcome(filter, options, columns, rows)
    expect(run.rows).toEqual([rows[0]])
    expect(run.dropped).toEqual([1, 2])
    expect(run.step.drops?.as).toBe('filtered')
  },
)

test('columns and their lineage stay what they are', async () => {
  const input = await bench.input(columns)
  expect((await bench.compile(filter, 'id > 0', input)).output.columns).toEqual(input.columns)
})

test('a row on which the expression fails is neither kept nor filtered', async () => {
  const run = await bench.outcome(filter, 'text::INTEGER > 1', { text: 'VARCHAR' }, [
    { text: '2' },
    { text: 'x' },
    { text: '1' },
  ])
  expect(run.rows).toEqual([{ text: '2' }])
  expect(run.dropped).toEqual([2])
  expect(run.failed).toEqual([{ row: 1, field: 'where' }])
})

test.each([
  ['id + 1', [], /BIGINT/],
  [{ where: 'lower(text)' }, ['where'], /VARCHAR/],
  [{ where: 'txt IS NULL' }, ['where'], /txt/],
])('refuses %j', async (options, place, message) => {
  const input = await bench.input(columns)
  await expect(bench.compile(filter, options, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, ...place] },
  })
})
