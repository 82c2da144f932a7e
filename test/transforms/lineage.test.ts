/** What steps say of their lineage, against what the engine does: the values that move when a column of the input moves. */
import { randomInt } from 'node:crypto'
import { tmpdir } from 'node:os'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Column } from '../../src/core/contracts.ts'
import type { StepDefinition } from '../../src/core/definitions.ts'
import type { Analysis, CompiledStep, StepEnv } from '../../src/core/step-contract.ts'
import { createAnalysis } from '../../src/engine/analysis.ts'
import { ROW, withoutRow } from '../../src/engine/relation.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import aggregate from '../../src/transforms/aggregate.ts'
import cast from '../../src/transforms/cast.ts'
import derive from '../../src/transforms/derive.ts'
import filter from '../../src/transforms/filter.ts'
import lookup from '../../src/transforms/lookup.ts'
import map from '../../src/transforms/map.ts'
import mask from '../../src/transforms/mask.ts'
import rename from '../../src/transforms/rename.ts'

const NAMES = ['a', 'b', 'c', 'd']
const columns: Column[] = NAMES.map((name) => ({ name, type: 'BIGINT', from: [name] }))
const input = { sql: 'SELECT * FROM rows', columns }

let engine: Engine
let session: Session
let analysis: Analysis
beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 256e6, threads: 1, tempFolder: tmpdir(), locked: false })
  session = await engine.connect()
  analysis = await createAnalysis(session)
  await session.run('CREATE TABLE ref AS SELECT range AS k, range * 13 % 7 AS v, range + 5 AS w FROM range(60)')
})
afterAll(() => {
  session.close()
  engine.close()
})

const env = (): StepEnv => ({
  id: 'step',
  path: ['transform', 0],
  analysis,
  secret: (_name, value) => `'\\x${Buffer.from(value).toString('hex').match(/../g)?.join('\\x')}'::BLOB`,
  reference: async () => ({
    table: 'ref',
    columns: ['k', 'v', 'w'].map((name) => ({ name, type: 'BIGINT', from: [`ref.${name}`] })),
  }),
})

const name = fc.constantFrom(...NAMES)
const expression = fc.oneof(
  name,
  fc.tuple(name, name).map(([x, y]) => `${x} * 7 + ${y}`),
  fc.tuple(name, name, name).map(([x, y, z]) => `case when ${x} > 25 then ${y} else ${z} end`),
  fc.constant('42'),
)
const named = fc
  .tuple(
    fc.shuffledSubarray([...NAMES, 'x', 'y'], { minLength: 1 }),
    fc.array(expression, { minLength: 6, maxLength: 6 }),
  )
  .map(([names, made]) => Object.fromEntries(names.map((key, index) => [key, made[index] as string])))
const sums = fc.tuple(expression, name).map(([x, y]) => ({ s: `sum(${x})`, m: `max(${y}) - min(${y})`, n: 'count(*)' }))

const steps: readonly (readonly [string, StepDefinition<never>, fc.Arbitrary<unknown>])[] = [
  ['derive', derive as never, named],
  ['map', map as never, named],
  ['rename', rename as never, name.map((key) => ({ [key]: 'z' }))],
  ['cast', cast as never, name.map((key) => ({ [key]: 'varchar' }))],
  [
    'mask',
    mask as never,
    fc
      .tuple(name, fc.constantFrom('hmac', 'redact', 'null'))
      .map(([key, how]) => ({ [key]: how, key: 'many bytes of a key' })),
  ],
  [
    'filter',
    filter as never,
    fc.tuple(name, fc.integer({ min: 5, max: 45 })).map(([key, least]) => `${key} > ${least}`),
  ],
  [
    'lookup',
    lookup as never,
    fc.tuple(expression, fc.constantFrom('null', 'drop')).map(([key, missing]) => ({
      table: 'ref',
      from: { type: 'files', path: 'ref.csv' },
      on: { [key]: 'k' },
      select: { found: 'v', w: 'w' },
      missing,
    })),
  ],
  [
    'aggregate',
    aggregate as never,
    fc.tuple(name, expression, sums).map(([key, group, select]) => ({ by: [key, { g: group }], select })),
  ],
]

/** Column → its values in the order of the rows; and which rows there are. */
async function outcome({ output }: CompiledStep, moved: string) {
  const made = NAMES.map((key, n) => `(hash(range, ${n}${key === moved ? ', 1' : ''}) % 50)::BIGINT AS ${key}`)
  await session.run(`CREATE OR REPLACE TABLE rows AS SELECT range AS ${ROW}, ${made.join(', ')} FROM range(40)`)
  const { rows } = await session.jsonRows(`${withoutRow(output)} ORDER BY ${ROW}`)
  return output.columns.map((_, index) => JSON.stringify(rows.map((row) => row[index])))
}

const seed = randomInt(2 ** 31)
test.each(steps)(
  `%s says of what its columns are made, and what decides on its rows (seed ${seed})`,
  async (_verb, step, options) => {
    await fc.assert(
      fc.asyncProperty(options, async (chosen) => {
        await outcome({ output: input, kind: 'row', expressions: [] }, '')
        const compiled = await step.compile(step.options.parse(chosen) as never, input, env())
        const deciding = compiled.lineage?.decides?.columns ?? []
        const before = await outcome(compiled, '')
        for (const moved of NAMES) {
          const after = await outcome(compiled, moved)
          for (const [index, column] of compiled.output.columns.entries()) {
            const why = `${column.name} when ${moved} moves, of ${JSON.stringify(chosen)}`
            if (before[index] !== after[index]) expect([...column.from, ...deciding], why).toContain(moved)
            // What says that it is a column as it came is one column.
            if (column.how === undefined) expect(column.from, why).toHaveLength(1)
          }
        }
      }),
      { numRuns: 40, seed },
    )
  },
)
