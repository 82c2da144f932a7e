import { randomInt } from 'node:crypto'
import { tmpdir } from 'node:os'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Column } from '../../src/core/contracts.ts'
import type { Analysis } from '../../src/core/step-contract.ts'
import { createAnalysis, overInput } from '../../src/engine/analysis.ts'
import { Engine, type Session } from '../../src/engine/session.ts'

const NAMES = ['a', 'b', 'c', 'd']
const columns: Column[] = ['id', ...NAMES].map((name) => ({ name, type: 'BIGINT', from: [name] }))
const input = { sql: 'SELECT * FROM input', columns }

let engine: Engine
let session: Session
let analysis: Analysis
beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 256e6, threads: 1, tempFolder: tmpdir(), locked: false })
  session = await engine.connect()
  analysis = await createAnalysis(session)
})
afterAll(() => {
  session.close()
  engine.close()
})

async function lineage(sql: string): Promise<string[]> {
  const { columns: found } = await analysis.select({ sql, path: [] }, input)
  return found.map(({ name, from, how }) => `${name}: ${from.join(' ')}${how === undefined ? '' : ` ${how}`}`)
}

describe('the lineage of a SELECT', () => {
  test.each([
    ['select a, b as c, a + b as d from input', ['a: a', 'c: b', 'd: a b computed']],
    ['select * from input', ['id: id', 'a: a', 'b: b', 'c: c', 'd: d']],
    ['select * exclude (id, b), b as id from input', ['a: a', 'c: c', 'd: d', 'id: b']],
    ['select i.a, i.* from input i', ['a: a', 'id: id', 'a: a', 'b: b', 'c: c', 'd: d']],
    ['select max(a) as b, b as a from input group by b', ['b: a aggregated', 'a: b']],
    ['select a as x, x * 2 as y from input', ['x: a', 'y: a computed']],
    ['select count(*) as n from input', ['n:  aggregated']],
    ['with t as (select b as a from input) select a from t', ['a: b']],
    ['with a as (select d as x from input), b as (select x as y from a) select y + 1 as z from b', ['z: d computed']],
    ['select s.x from (select c as x, a from input) s', ['x: c']],
    ['select l.a, r.b as q from input l join input r on l.id = r.id', ['a: a', 'q: b']],
    ['select a from input union all select b from input', ['a: a b']],
    ['select row_number() over (partition by c order by d) as n from input', ['n: c d computed']],
    ['select list_transform([a], lambda b: b + c) as l from input', ['l: a c computed']],
    ['from input select b as country', ['country: b']],
  ])('%s', async (sql, expected) => {
    // Two columns of one name are told apart by the engine: only their lineage is looked at here.
    expect((await lineage(sql)).map((text) => text.replace(/^(\w+)_1:/, '$1:'))).toEqual(expected)
  })

  test.each([
    ['select * replace (b as a) from input', 'a', ['a', 'b']],
    ['select * from input natural join (select id, b as e from input)', 'e', ['b']],
    ['select (select max(b) from input) as a from input', 'a', ['b']],
    ["select columns('a|b') from input", 'b', ['b']],
  ])('that cannot be followed names too much, never too little: %s', async (sql, column, made) => {
    const { columns: found } = await analysis.select({ sql, path: [] }, input)
    expect(found.find(({ name }) => name === column)?.from).toEqual(expect.arrayContaining(made))
  })
})

/** Statements that keep one row per row of the input: what a value depends on can then be seen by changing columns. */
const item = fc.oneof(
  fc.constantFrom(...NAMES),
  fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...NAMES)).map(([x, y]) => `${x} * 7 + ${y}`),
  fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...NAMES)).map(([x, y]) => `case when ${x} > 50 then ${y} end`),
  fc.constantFrom(...NAMES).map((x) => `sum(${x}) over (order by id)`),
  fc.constant('42'),
)
const items = fc
  .tuple(fc.shuffledSubarray(NAMES, { minLength: 4 }), fc.array(item, { minLength: 4, maxLength: 4 }))
  .map(([names, made]) => ['id', ...names.map((name, index) => `${made[index]} as ${name}`)].join(', '))
const { statement } = fc.letrec<{ statement: string; table: string }>((tie) => ({
  statement: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    items.map((list) => `select ${list} from input`),
    fc.tuple(items, tie('table')).map(([list, table]) => `select ${list} from ${table}`),
    tie('table').map((table) => `select t.* from ${table} as t`),
    fc.tuple(items, tie('statement')).map(([list, inner]) => `with w as (${inner}) select ${list} from w`),
    fc
      .tuple(tie('table'), tie('table'), fc.shuffledSubarray(NAMES, { minLength: 4 }))
      .map(
        ([l, r, [p, q, s, t]]) =>
          `select l.id, l.${p} as a, r.${q} as b, r.${s} as c, l.${t} as d from ${l} as l join ${r} as r on l.id = r.id`,
      ),
  ),
  table: fc.oneof(
    { depthSize: 'small' },
    fc.constant('input'),
    tie('statement').map((inner) => `(${inner})`),
  ),
}))

const seed = randomInt(2 ** 31)
test(`a column whose values move when a column of the input does is made of it (seed ${seed})`, async () => {
  const rows = (moved: string) =>
    `SELECT range AS id, ${NAMES.map((name, n) => `hash(range, ${n}${name === moved ? ', 1' : ''}) % 100 AS ${name}`).join(', ')} FROM range(40)`
  const values = async (sql: string, moved: string) => {
    const { columns: names, rows: found } = await session.jsonRows(`${overInput(rows(moved), sql)} ORDER BY id`)
    return names.map((_, index) => JSON.stringify(found.map((row) => row[index])))
  }
  let exact = 0
  await fc.assert(
    fc.asyncProperty(statement, async (sql) => {
      const { columns: found } = await analysis.select({ sql, path: [] }, input)
      const before = await values(sql, '')
      for (const moved of NAMES) {
        const after = await values(sql, moved)
        for (const [index, { name, from }] of found.entries()) {
          if (before[index] !== after[index]) expect(from, `${name} of ${sql}`).toContain(moved)
          else if (!from.includes(moved)) exact += 1
        }
      }
    }),
    { numRuns: 150, seed },
  )
  expect(exact).toBeGreaterThan(500)
})
