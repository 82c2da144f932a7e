import { afterAll, beforeAll, expect, test } from 'vitest'
import sql from '../../src/transforms/sql.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

const columns = { 'Id "x"': 'BIGINT', tags: 'VARCHAR[]' }
const rows = [
  { 'Id "x"': '9007199254740993', tags: ['b', 'a'] },
  { 'Id "x"': 2, tags: null },
]

test.each([
  ['SELECT unnest(tags) AS tag FROM input', [{ tag: 'a' }, { tag: 'b' }]],
  [
    'WITH big AS (SELECT "Id ""x""" AS id FROM input WHERE "Id ""x""" > 5) SELECT id + 1 AS id FROM big',
    [{ id: '9007199254740994' }],
  ],
  ['SELECT count(*) AS n FROM input -- all', [{ n: 2 }]],
  [
    'SELECT a."Id ""x""" AS i FROM input a JOIN input b USING ("Id ""x""") ORDER BY 1 DESC LIMIT 1',
    [{ i: '9007199254740993' }],
  ],
  [{ statement: "SELECT '$seq' AS s FROM input LIMIT 1", id: 'some' }, [{ s: '$seq' }]],
])('%j', async (options, expected) => {
  const run = await bench.outcome(sql, options, columns, rows)
  expect(run.rows).toEqual(expected)
  expect(run.step.kind).toBe('set')
})

test('the internal ordinal is not seen', async () => {
  const { step } = await bench.outcome(sql, 'SELECT * FROM input', columns, rows)
  expect(step.output.columns.map(({ name }) => name)).toEqual(['Id "x"', 'tags'])
})

test.each([
  ['another table', 'SELECT * FROM duckdb_settings()', /duckdb_settings/],
  ['a file', "SELECT * FROM read_csv('/etc/passwd')", /read_csv/],
  ['a statement that is no SELECT', 'DROP TABLE input', /SELECT/],
  ['two statements', 'SELECT 1 AS a; SELECT 2 AS a', /one SELECT/],
  ['what gives another result each time', 'SELECT random() AS r FROM input', /random/],
  ['an unknown column', 'SELECT nope FROM input', /nope/],
  ['a reserved name', 'SELECT 1 AS __x FROM input', /reserved/],
])('refuses %s', async (_, statement, message) => {
  const input = await bench.input(columns)
  await expect(bench.compile(sql, { statement }, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, 'statement'] },
  })
})
