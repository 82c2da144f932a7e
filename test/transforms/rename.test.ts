import { afterAll, beforeAll, expect, test } from 'vitest'
import rename from '../../src/transforms/rename.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

test.each([
  ['one column', { a: 'x' }, { x: 1, b: '2' }],
  ['two that swap', { a: 'b', b: 'a' }, { b: 1, a: '2' }],
  ['a change of case', { A: 'A' }, { A: 1, b: '2' }],
  ['names that need quotes', { a: 'größe "m"', b: 'select' }, { 'größe "m"': 1, select: '2' }],
])('renames %s', async (_, options, expected) => {
  const { rows } = await bench.outcome(rename, options, { a: 'INTEGER', b: 'VARCHAR' }, [{ a: 1, b: '2' }])
  expect(rows).toEqual([expected])
  expect(Object.keys(rows[0] ?? {})).toEqual(Object.keys(expected))
})

test('types and lineage go with the column', async () => {
  const input = await bench.input({ a: 'DECIMAL(38, 10)', b: 'VARCHAR' })
  const { output } = await bench.compile(rename, { a: 'x' }, input)
  expect(output.columns[0]).toEqual({ name: 'x', type: 'DECIMAL(38,10)', from: ['a'] })
})

test.each([
  ['an unknown column, with a suggestion', { campain: 'x' }, ['campain'], { hint: /`campaign`.*campaign, b/ }],
  ['a name that is there', { campaign: 'B' }, ['campaign'], { message: /two columns/ }],
  ['one name for two', { campaign: 'x', b: 'X' }, ['b'], { message: /two columns/ }],
  ['one column twice', { b: 'x', B: 'y' }, ['B'], { message: /twice/ }],
  ['a reserved name', { b: '__b' }, ['b'], { message: /reserved/ }],
])('refuses %s', async (_, options, place, says) => {
  const input = await bench.input({ campaign: 'INTEGER', b: 'VARCHAR' })
  const matching = Object.fromEntries(Object.entries(says).map(([key, text]) => [key, expect.stringMatching(text)]))
  await expect(bench.compile(rename, options, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    details: { path: [...STEP_PATH, ...place] },
    ...matching,
  })
})
