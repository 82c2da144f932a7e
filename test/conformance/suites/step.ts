/** What every step must do. A step's own line is in test/conformance/steps.test.ts. */
import { randomInt } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { StepDefinition } from '../../../src/core/definitions.ts'
import { AdflowError } from '../../../src/core/errors.ts'
import type { CompiledStep } from '../../../src/core/step-contract.ts'
import { ROW } from '../../../src/engine/relation.ts'
import { bindSequence } from '../../../src/engine/sequence.ts'
import { ident } from '../../../src/engine/sql-text.ts'
import { type Input, STEP_PATH, StepBench, valueSql } from '../../harness/step.ts'

const RANDOM_ROWS = 100_000

export function stepSuite<Options>(verb: string, definition: StepDefinition<Options>): void {
  const { example, sample } = definition
  const seed = randomInt(1_000_000_000)

  describe(`step ${verb}`, () => {
    let bench: StepBench
    beforeAll(async () => {
      bench = await StepBench.open(sample.files)
    })
    afterAll(() => bench.close())

    const sampled = async () => {
      const input = await bench.input(sample.columns, sample.rows)
      return { input, step: await bench.compile(definition, example, input) }
    }

    test('says what it is and describes every option', () => {
      expect(definition.summary).toMatch(/\.$/)
      expect(undescribed(z.toJSONSchema(definition.options, { io: 'input' }))).toEqual([])
    })

    test('the example does with the sample what it says', async () => {
      const { input, step } = await sampled()
      const { rows, failed } = await bench.run(step, input)
      expect(failed).toEqual([])
      expect(rows).toEqual(sample.expect)
    })

    test('says the names and types that come out', async () => {
      const { input, step } = await sampled()
      const { output } = await bench.prepare(step, input)
      const said = step.output.columns.map(({ name, type }) => ({ name, type }))
      expect(await bench.session.describe(output)).toEqual([{ name: ROW, type: 'BIGINT' }, ...said])
    })

    test('gives columns of its own no reserved names, and each name once', async () => {
      const names = (await sampled()).step.output.columns.map(({ name }) => name.toLowerCase())
      expect(names.filter((name) => name.startsWith('__'))).toEqual([])
      expect(new Set(names).size).toBe(names.length)
    })

    test('lineage names columns of the input', async () => {
      const { input, step } = await sampled()
      const known = input.columns.map(({ name }) => name)
      for (const { from } of step.output.columns) for (const source of from) expect(known).toContain(source)
    })

    test('takes no rows and gives none', async () => {
      const input = await bench.input(sample.columns)
      const run = await bench.run(await bench.compile(definition, example, input), input)
      expect(run).toEqual({ rows: [], dropped: [], failed: [] })
    })

    test('a repeated batch gives the same rows under the same numbers', async () => {
      const { input, step } = await sampled()
      const first = await bench.run(step, input, 7)
      const numbers = await bench.ordinals(bindSequence(step.output.sql, 7))
      expect(await bench.run(step, input, 7)).toEqual(first)
      expect(await bench.ordinals(bindSequence(step.output.sql, 7))).toEqual(numbers)
    })

    test('refuses columns that are not there, at their place in the job file', async () => {
      const input = await bench.input({ unrelated: 'INTEGER' })
      const error = await bench.compile(definition, example, input).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(AdflowError)
      expect((error as AdflowError).code).toBe('SQL_INVALID')
      expect((error as AdflowError).details?.['path']).toEqual(expect.arrayContaining([...STEP_PATH]))
    })

    test(`accounts for each of ${RANDOM_ROWS} rows (seed ${seed})`, async () => {
      const input = await randomInput(bench, sample, seed)
      const step = await bench.compile(definition, example, input)
      const { output, drops, failed } = await bench.prepare(step, input)
      if (step.kind === 'set') expect(await bench.count(output)).toBeGreaterThan(0)
      else expect(await balance(bench, step, { input, output, drops })).toEqual(RANDOM_ROWS - failed.length)
    })
  })
}

/** Rows that arrive, when each is in exactly one of output and drops; otherwise throws. */
async function balance(
  bench: StepBench,
  step: CompiledStep,
  { input, output, drops }: { input: Input; output: string; drops: string | undefined },
): Promise<number> {
  if (drops === undefined) expect(step.drops).toBeUndefined()
  const left = `SELECT ${ROW} FROM (${output})${drops === undefined ? '' : ` UNION ALL ${drops}`}`
  const [row] = await bench.rows(
    `SELECT count(*) AS n, count(DISTINCT ${ROW}) AS once, count(*) FILTER (${ROW} NOT IN (SELECT ${ROW} FROM ${input.table})) AS foreign_rows FROM (${left})`,
  )
  const rows = await bench.count(input.sql)
  expect(row).toEqual({ n: rows, once: rows, foreign_rows: 0 })
  return rows
}

/** Values near those of the sample, repeated, changed and missing; the same for the same seed. */
async function randomInput(bench: StepBench, sample: StepDefinition['sample'], seed: number): Promise<Input> {
  const columns = Object.entries(sample.columns).map(([name, type], index) => {
    const draw = (salt: number) => `(hash(i, ${seed}, ${index}, ${salt}) % 1000000)::BIGINT`
    const values = sample.rows.map((row) => valueSql(row[name], type))
    const value = `list_extract([${values.join(', ')}], 1 + ${draw(1)} % ${values.length})`
    const changed = `CASE WHEN ${draw(2)} % 2 = 0 THEN ${value} ELSE ${variation(value, type, draw(3))} END`
    return `CASE WHEN ${draw(4)} % 10 > 0 THEN ${changed} END AS ${ident(name)}`
  })
  return bench.inputOf(
    sample.columns,
    `SELECT ${[`i AS ${ROW}`, ...columns].join(', ')} FROM range(${RANDOM_ROWS}) t(i)`,
  )
}

function variation(value: string, type: string, number: string): string {
  if (type.startsWith('TIMESTAMP')) return `${value} + to_seconds(${number})`
  if (type === 'VARCHAR') return `${value} || (${number} % 100)`
  return `${number}::${type}`
}

/** Paths of a JSON schema's properties and entries that have no description. */
function undescribed(schema: unknown, path = ''): string[] {
  if (Array.isArray(schema)) return schema.flatMap((part, index) => undescribed(part, `${path}/${index}`))
  if (typeof schema !== 'object' || schema === null) return []
  return Object.entries(schema).flatMap(([key, value]) => {
    if (key !== 'properties') return undescribed(value, `${path}/${key}`)
    return Object.entries(value as Record<string, { description?: string }>).flatMap(([name, option]) => [
      ...(option.description === undefined ? [`${path}/${name}`] : []),
      ...undescribed(option, `${path}/${name}`),
    ])
  })
}
