import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry, type Registry } from '../../src/core/registry.ts'
import { runJobTests, type TestResult } from '../../src/runtime/job-tests.ts'

const JOB = `version: 1
name: spend
extract:
  web: { type: files, path: web/*.ndjson }
  shop: { type: files, path: shop/*.csv.gz, csv: { delimiter: ";" } }
contract:
  columns:
    id: { type: bigint, required: true }
    ts: timestamptz
    cost: decimal(38,18)
    device: { type: "struct(os varchar)", from: dev }
    user_id: varchar
    payload: json
validate:
  - { id: cheap, check: "cost <= 100" }
  - { id: recent, check: "ts > now() - interval 1 day", on_fail: drop }
transform:
  - dedupe: { key: [id] }
  - { id: doubled, derive: { twice: "cost * 2", hour: "date_trunc('hour', ts)" } }
  - lookup: { table: names, from: { type: files, path: names.csv }, on: { id: id }, select: { label: name } }
  - mask: { user_id: hmac, key: "a key for the tests" }
  - aggregate: { id: totals, by: [label], select: { n: "count(*)", total: "sum(cost)" } }
load:
  store: { type: duckdb, path: w.duckdb, table: t }
  sums: { type: duckdb, path: w.duckdb, table: s, input: totals }
tests:
`

let folder: string
let registry: Registry

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-tests-'))
  writeFileSync(join(folder, 'names.csv'), 'id,name\n1,one\n9007199254740993,big\n')
  registry = await loadRegistry()
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function results(tests: string, { base = JOB, filter }: { base?: string; filter?: string } = {}) {
  const file = join(folder, 'job.yaml')
  writeFileSync(file, base + tests)
  const job = await loadJob(file, { registry, env: {} })
  const all: TestResult[] = []
  const options = { job, registry, log: pino({ level: 'silent' }), ...(filter === undefined ? {} : { filter }) }
  for await (const result of runJobTests(options)) all.push(result)
  return all
}

/** Problems of a single test. */
async function problems(test: string, base = JOB): Promise<readonly string[]> {
  const [result, ...others] = await results(`  - ${test}\n`, { base })
  expect(others).toEqual([])
  expect(result?.ok).toBe(result?.problems.length === 0)
  return result?.problems ?? ['no test ran']
}

const given = (rows: string) => `name: t, clock: "2026-03-01T12:00:00Z", given: { web: ${rows} }`

describe('a test passes', () => {
  it.each([
    ['with rows in any order', '[{id: 1, cost: 1}, {id: 2, cost: 2}]', '{ store: [{id: 2}, {id: 1}] }'],
    ['with int64 beyond 2^53', '[{id: 9007199254740993}]', '{ store: [{id: 9007199254740993, label: big}] }'],
    [
      'with decimals to the last digit',
      '[{id: 1, cost: 12.123456789012345678}]',
      '{ store: [{twice: 24.246913578024691356}] }',
    ],
    [
      'with times in any zone',
      '[{id: 1, ts: "2026-03-01T10:15:00Z"}]',
      '{ store: [{hour: "2026-03-01T15:30:00+05:30"}] }',
    ],
    ['with a struct, and NULL', '[{id: 1, dev: {os: x}}]', '{ store: [{device: {os: x}, cost: null}] }'],
    ['with JSON, whatever its white space', '[{id: 1, payload: {a: [1, 2]}}]', '{ store: [{payload: {a: [1, 2]}}] }'],
    [
      'with each row compared on the columns that it names',
      '[{id: 1, cost: 5}, {id: 2}]',
      '{ store: [{id: 2}, {cost: 5, label: one}] }',
    ],
    ['with duplicates gone', '[{id: 1}, {id: 1}]', '{ store: [{id: 1}] }'],
    [
      'with the clock of the test',
      '[{id: 1, ts: "2026-02-28T11:00:00Z"}, {id: 2, ts: "2026-03-01"}]',
      '{ store: [{id: 2}] }',
    ],
    [
      'behind a step in the middle',
      '[{id: 1, cost: 1}, {id: 1}]',
      '{ doubled: [{id: 1, twice: 2}], dedupe_1: [{id: 1}] }',
    ],
    [
      'at the store of another output',
      '[{id: 1, cost: 1}, {id: 2, cost: 3}]',
      '{ sums: [{label: one, n: 1, total: 1}, {label: null, n: 1, total: 3}] }',
    ],
    ['with no rows', '[]', '{ store: [], main: [], quarantine: [] }'],
    [
      'with what is refused, on the keys that are given',
      '[{id: 1, cost: 101}, {cost: 1}, {id: x}, {id: 2}]',
      '{ store: [{id: 2}], quarantine: [{rule: required, field: id}, {rule: type, reason: BIGINT, source: web}, {rule: cheap}] }',
    ],
  ])('%s', async (_, rows, expected) => {
    expect(await problems(`{ ${given(rows)}, expect: ${expected} }`)).toEqual([])
  })

  it('with raw lines of NDJSON', async () => {
    const lines = `{ lines: ['{"id":1}', 'oops', '{"id":2}'] }`
    const expected = '{ store: [{id: 1}, {id: 2}], quarantine: [{rule: malformed, raw: oops, line: 2}] }'
    expect(await problems(`{ ${given(lines)}, expect: ${expected} }`)).toEqual([])
  })

  it('with raw lines of CSV, read as the source reads its files', async () => {
    const lines = `{ lines: ['id;cost;dev', '1;2.5;"{""os"":""x""}"', '2;1;;too many'] }`
    const expected =
      '{ store: [{id: 1, cost: 2.5, device: {os: x}}], quarantine: [{rule: malformed, raw: "2;1;;too many"}] }'
    expect(await problems(`{ name: t, given: { shop: ${lines} }, expect: ${expected} }`)).toEqual([])
  })

  it('with several sources, in the order in which a run reads them', async () => {
    const both =
      '{ name: t, given: { shop: [{id: 1, user_id: b}], web: [{id: 1, cost: 7}] }, expect: { store: [{id: 1, cost: 7}] } }'
    expect(await problems(both)).toEqual([])
  })

  it('without the state of the test before', async () => {
    const one = '  - { name: NAME, given: { web: [{id: 1}] }, expect: { store: [{id: 1}] } }\n'
    const all = await results(one.replace('NAME', 'first') + one.replace('NAME', 'second'))
    expect(all.map(({ ok }) => ok)).toEqual([true, true])
  })
})

describe('a test fails', () => {
  it('with the columns in which a row differs', async () => {
    const lines = await problems(
      `{ ${given('[{id: 1, cost: 5}, {id: 2, cost: 6}]')}, expect: { store: [{id: 1, cost: 5}, {id: 2, cost: 7}] } }`,
    )
    expect(lines).toEqual([
      'store: expected 2 rows, got 2',
      '  ~ differs:      {id: 2}',
      '      cost: expected "7.000000000000000000", got "6.000000000000000000"',
    ])
  })

  it('with the rows that are missing and those that are too many', async () => {
    const lines = await problems(`{ ${given('[{id: 1}, {id: 2}]')}, expect: { store: [{id: 1}, {id: 3}, {id: 3}] } }`)
    expect(lines).toEqual([
      'store: expected 3 rows, got 2',
      '  - missing:      {id: 3}',
      '  - missing:      {id: 3}',
      '  + not expected: {id: 2}',
    ])
  })

  it('with a suggestion for a column that is not there', async () => {
    expect(await problems(`{ ${given('[{id: 1}]')}, expect: { store: [{lable: one}] } }`)).toEqual([
      'store: there is no column `lable` here: did you mean `label`?',
    ])
  })

  it('with the value that does not fit its column', async () => {
    expect(await problems(`{ ${given('[{id: 1}]')}, expect: { store: [{id: 1}, {id: 1.5}] } }`)).toEqual([
      'store: expected row 2 does not fit the columns: id: cannot read 1.5 as BIGINT',
    ])
  })

  it('with what was refused and not expected, and the other way', async () => {
    expect(await problems(`{ ${given('[{id: x}]')}, expect: { quarantine: [{rule: cheap}] } }`)).toEqual([
      'quarantine: expected 1 refused, got 1',
      '  - missing:      {"rule":"cheap"}',
      '  + not expected: type of id: cannot read x as BIGINT — web: {"id":"x"}',
    ])
  })

  it('and says what was refused on the way, where a row is missing', async () => {
    expect((await problems(`{ ${given('[{id: 1, cost: 500}]')}, expect: { store: [{id: 1}] } }`)).join('\n')).toContain(
      'not true: cost <= 100',
    )
  })

  it('when a rule stops the batch', async () => {
    const base = JOB.replace('transform:\n', '  - { id: some, batch: "count(*) > 1" }\ntransform:\n')
    const [line] = await problems(`{ ${given('[{id: 1}]')}, expect: { store: [{id: 1}] } }`, base)
    expect(line).toContain('stopped by DATA_REJECTED: batch rule some does not hold')
  })
})

describe('runJobTests', () => {
  const TESTS = ['Apples', 'pears']
    .map((name) => `  - { name: ${name}, given: { web: [] }, expect: { store: [] } }\n`)
    .join('')

  it('runs the tests whose name has the text', async () => {
    expect((await results(TESTS, { filter: 'apple' })).map(({ name }) => name)).toEqual(['Apples'])
  })

  it('says where a test stands in its file', async () => {
    const [result] = await results(TESTS)
    expect(result?.at).toBe(`${join(folder, 'job.yaml')}:${JOB.split('\n').length}:5`)
  })

  it('rejects for a job that does not compile', async () => {
    await expect(results(TESTS, { base: JOB.replace('"cost * 2"', '"cots * 2"') })).rejects.toMatchObject({
      code: 'JOB_INVALID',
      message: expect.stringContaining('cots'),
    })
  })
})
