import { afterAll, beforeAll, expect, test } from 'vitest'
import map from '../../src/transforms/map.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

test('expressions read the columns that arrive, not each other', async () => {
  const { rows } = await bench.outcome(map, { a: 'b', b: 'a', c: 'a + b' }, { a: 'INTEGER', b: 'INTEGER' }, [
    { a: 1, b: 2 },
  ])
  expect(rows).toEqual([{ a: 2, b: 1, c: 3 }])
})

test('keeps integers beyond 2^53 and decimals exact', async () => {
  const { rows, step } = await bench.outcome(
    map,
    { id: 'id + 1', price: 'price * 3', big: 'id::HUGEINT * id' },
    { id: 'BIGINT', price: 'DECIMAL(18, 9)' },
    [{ id: '9223372036854775806', price: '0.100000001' }],
  )
  expect(rows).toEqual([
    { id: '9223372036854775807', price: '0.300000003', big: '85070591730234615828950163710522949636' },
  ])
  expect(step.output.columns.map(({ type }) => type)).toEqual(['BIGINT', 'DECIMAL(18,9)', 'HUGEINT'])
})

test('a row on which an expression fails is taken out, the others go on', async () => {
  const { rows, failed, step } = await bench.outcome(map, { n: 'text::INTEGER', text: 'text' }, { text: 'VARCHAR' }, [
    { text: '1' },
    { text: 'x' },
    { text: null },
  ])
  expect(rows).toEqual([
    { n: 1, text: '1' },
    { n: null, text: null },
  ])
  expect(failed).toEqual([{ row: 1, field: 'n' }])
  expect(step.expressions.map(({ field }) => field)).toEqual(['n'])
})

test('takes names in any script, names that need quotes, and comments', async () => {
  const { rows } = await bench.outcome(
    map,
    { 広告: '"user ""id""" -- the user', select: "upper('ß') /* why not */", ünï: '"広告 x"' },
    { 'user "id"': 'VARCHAR', '広告 x': 'VARCHAR' },
    [{ 'user "id"': '李', '広告 x': "o'clock" }],
  )
  expect(rows).toEqual([{ 広告: '李', select: 'ẞ', ünï: "o'clock" }])
})

test('lineage names the columns that an expression reads, each once', async () => {
  const input = await bench.input({ a: 'INTEGER', b: 'INTEGER', c: 'INTEGER[]' })
  const from = { ...input, columns: input.columns.map((column) => ({ ...column, from: [`src_${column.name}`] })) }
  const { output } = await bench.compile(map, { x: 'a + b * a', y: '1', z: 'list_transform(c, lambda a: a + b)' }, from)
  expect(output.columns.map(({ from }) => from)).toEqual([['src_a', 'src_b'], [], ['src_c', 'src_b']])
})

test.each([
  ['an unknown column', { x: 'nope + 1' }, ['x'], /nope/],
  ['an aggregate', { x: 'sum(a)' }, ['x'], /aggregate/],
  ['a window', { x: 'lag(a) OVER ()' }, ['x'], /window/],
  ['what gives another result each time', { x: 'random()' }, ['x'], /random/],
  ['a sub-query', { x: '(SELECT 1)' }, ['x'], /sub-query/],
  ['two expressions in one', { x: 'a) , (a' }, ['x'], /one expression/],
  ['many rows of one', { x: 'unnest([1, 2])' }, ['x'], /many rows/],
  ['many columns for one', { x: "COLUMNS('a')" }, ['x'], /one value/],
  ['the secrets of other steps', { x: "getvariable('k')" }, ['x'], /getvariable/],
  ['a reserved name', { __row: 'a' }, ['__row'], /reserved/],
  ['one name twice', { x: 'a', X: 'a' }, ['X'], /two columns/],
])('refuses %s', async (_, options, place, message) => {
  const input = await bench.input({ a: 'INTEGER' })
  await expect(bench.compile(map, options, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, ...place] },
  })
})

test('refuses a map of nothing', () => {
  expect(map.options.safeParse({}).success).toBe(false)
})
