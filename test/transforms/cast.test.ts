import { afterAll, beforeAll, expect, test } from 'vitest'
import cast from '../../src/transforms/cast.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

test.each([
  ['bigint', '9223372036854775807', '9223372036854775807', 'BIGINT'],
  ['decimal(38, 12)', '12345678901234567890.123456789012', '12345678901234567890.123456789012', 'DECIMAL(38,12)'],
  ['timestamp', '2026-03-01T10:00:00.000001', '2026-03-01 10:00:00.000001', 'TIMESTAMP'],
  ['date', '2024-02-29', '2024-02-29', 'DATE'],
  ['boolean', 'true', true, 'BOOLEAN'],
  ['uuid', '4AC7A9E9-607C-4C8A-84F3-843F0191E3FD', '4ac7a9e9-607c-4c8a-84f3-843f0191e3fd', 'UUID'],
  ['integer[]', '[1, 2]', [1, 2], 'INTEGER[]'],
])('casts text to %s exactly', async (type, text, value, said) => {
  const { rows, step } = await bench.outcome(cast, { v: type }, { v: 'VARCHAR' }, [{ v: text }, { v: null }])
  expect(rows).toEqual([{ v: value }, { v: null }])
  expect(step.output.columns).toEqual([{ name: 'v', type: said, from: ['v'], how: 'computed' }])
})

test('rows whose values do not fit are named with their field', async () => {
  const { rows, failed } = await bench.outcome(
    cast,
    { n: 'tinyint', 'der "Tag"': 'date' },
    { n: 'VARCHAR', 'der "Tag"': 'VARCHAR' },
    [
      { n: '127', 'der "Tag"': '2026-01-01' },
      { n: '128', 'der "Tag"': '2026-01-01' },
      { n: '1', 'der "Tag"': '2026-02-30' },
    ],
  )
  expect(rows).toEqual([{ n: 127, 'der "Tag"': '2026-01-01' }])
  expect(failed).toEqual([
    { row: 1, field: 'n' },
    { row: 2, field: 'der "Tag"' },
  ])
})

test.each([
  ['an unknown type', { v: 'integr' }, /integr/i],
  ['an expression in place of a type', { v: 'integer) + (1' }, /not a type/],
  ['an unknown column', { w: 'integer' }, /w/],
])('refuses %s', async (_, options, message) => {
  const input = await bench.input({ v: 'VARCHAR' })
  await expect(bench.compile(cast, options, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, Object.keys(options)[0]] },
  })
})
