import { afterAll, beforeAll, expect, test } from 'vitest'
import derive from '../../src/transforms/derive.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

test('later expressions see what earlier ones made, at any depth', async () => {
  const { rows } = await bench.outcome(derive, { b: 'a + 1', c: 'b * 10', d: 'c + b + a', e: 'a' }, { a: 'BIGINT' }, [
    { a: 1 },
    { a: null },
  ])
  expect(rows).toEqual([
    { a: 1, b: 2, c: 20, d: 23, e: 1 },
    { a: null, b: null, c: null, d: null, e: null },
  ])
})

test('a replaced column keeps its place, and what follows sees the new value and type', async () => {
  const { rows, step } = await bench.outcome(
    derive,
    { Day: 'day::DATE', next: 'day + 1', n: 'n + 1', twice: 'n * 2' },
    { day: 'VARCHAR', n: 'INTEGER' },
    [{ day: '2026-02-28', n: 1 }],
  )
  expect(rows).toEqual([{ Day: '2026-02-28', n: 2, next: '2026-03-01', twice: 4 }])
  expect(step.output.columns.map(({ name, type }) => `${name} ${type}`)).toEqual([
    'Day DATE',
    'n INTEGER',
    'next DATE',
    'twice INTEGER',
  ])
})

test('lineage goes through columns made in the same step', async () => {
  const input = await bench.input({ a: 'INTEGER', b: 'INTEGER' })
  const { output } = await bench.compile(derive, { x: 'a + 1', a: 'b', y: 'x + a' }, input)
  const from = Object.fromEntries(output.columns.map((column) => [column.name, column.from]))
  expect(from).toEqual({ a: ['b'], b: ['b'], x: ['a'], y: ['a', 'b'] })
})

test('a failing row is named once, by the expression that failed', async () => {
  const { rows, failed } = await bench.outcome(
    derive,
    { n: 'text::INTEGER', tiny: '(n * 100)::TINYINT', none: 'tiny IS NULL' },
    { text: 'VARCHAR' },
    [{ text: '1' }, { text: 'four' }, { text: '2' }, { text: null }],
  )
  expect(failed).toEqual([
    { row: 1, field: 'n' },
    { row: 2, field: 'tiny' },
  ])
  expect(rows).toEqual([
    { text: '1', n: 1, tiny: 100, none: false },
    { text: null, n: null, tiny: null, none: true },
  ])
})

test('names that need quotes can be made and read', async () => {
  const { rows } = await bench.outcome(
    derive,
    { '費用 "¥"': 'cost * 2', total: '"費用 ""¥""" + 1' },
    { cost: 'DECIMAL(20, 2)' },
    [{ cost: '123456789012345678.91' }],
  )
  expect(rows).toEqual([
    { cost: '123456789012345678.91', '費用 "¥"': '246913578024691357.82', total: '246913578024691358.82' },
  ])
})

test('a mistake is told at its expression', async () => {
  const input = await bench.input({ a: 'INTEGER' })
  await expect(bench.compile(derive, { b: 'a', c: 'd + b' }, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    details: { path: [...STEP_PATH, 'c'], sql: 'd + b' },
  })
})
