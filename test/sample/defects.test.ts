import { tmpdir } from 'node:os'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Engine, type Session } from '../../src/engine/session.ts'
import { countsOf, DEFECT_CLASSES, defectAt, originalOf, planDefects, totalOf } from '../../src/sample/defects.ts'
import { keyOf } from '../../src/sample/random.ts'

let engine: Engine
let session: Session
beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 200_000_000, threads: 1, tempFolder: tmpdir() })
  session = await engine.connect()
})
afterAll(() => {
  session.close()
  engine.close()
})

const cases = [
  { title: 'the usual rate', rows: 100_000, each: 100, duplicates: 100 },
  { title: 'as dense as can be', rows: 3_200, each: 200, duplicates: 200 },
  { title: 'uneven strata', rows: 10_007, each: 13, duplicates: 31 },
  { title: 'one duplicate in many records', rows: 300_000, each: 0, duplicates: 1 },
  { title: 'strata wider than the distance of a duplicate', rows: 300_000, each: 0, duplicates: 4 },
  { title: 'duplicates only', rows: 1_000, each: 0, duplicates: 500 },
  { title: 'no defects', rows: 1_000, each: 0, duplicates: 0 },
]

it.each(cases)('$title: the counts are exact and a duplicate repeats a clean record shortly before', async (given) => {
  const counts = countsOf((name) => (name === 'duplicate' ? given.duplicates : given.each))
  const plan = planDefects(given.rows, counts, keyOf('test', given.rows))
  await session.run(
    `CREATE OR REPLACE TABLE marked AS SELECT p, ${defectAt(plan, 'p')} AS defect FROM range(${given.rows}) r(p)`,
  )
  const found = await session.rows('SELECT defect, count(*) AS n FROM marked WHERE defect > 0 GROUP BY ALL')
  expect(Object.fromEntries(found.map((row) => [DEFECT_CLASSES[Number(row['defect']) - 1], Number(row['n'])]))).toEqual(
    Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)),
  )
  if (totalOf(counts) === 0) return
  const [copies] = await session.rows(
    `WITH copies AS (SELECT p AS copy, ${originalOf(plan, 'p')} AS q FROM marked WHERE defect = 8)
     SELECT count(*) AS n, min(copy - q) AS nearest, max(copy - q) AS farthest, count(*) FILTER (o.defect = 0) AS clean
     FROM copies JOIN marked o ON o.p = q`,
  )
  expect(Number(copies?.['n'])).toBe(given.duplicates)
  expect(Number(copies?.['clean'])).toBe(given.duplicates)
  expect(Number(copies?.['nearest'])).toBeGreaterThanOrEqual(1)
  expect(Number(copies?.['farthest'])).toBeLessThanOrEqual(50_000)
})
