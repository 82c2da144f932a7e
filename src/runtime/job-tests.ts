/**
 * The tests inside a job file: given records go the way that records of a run go – contract, rules, steps – up to the
 * stores, with a clock that stands still and a state of their own.
 */
import type { Logger } from 'pino'
import type { Chunk, Column } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobTest, TestInput } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { tokenNumber, tokenOf } from '../core/token.ts'
import { withoutRow } from '../engine/relation.ts'
import { bindSequence } from '../engine/sequence.ts'
import { ident } from '../engine/sql-text.ts'
import { rowsFor } from './consumer-rows.ts'
import { MAIN } from './pipeline.ts'
import { compareQuarantine, type RefusedRow } from './quarantine-diff.ts'
import type { Refined } from './refine.ts'
import { compareRows, jsonText, rowChunks } from './row-diff.ts'
import { linesInFile } from './test-files.ts'
import { Workbench } from './workbench.ts'

export interface TestResult {
  readonly name: string
  readonly ok: boolean
  readonly ms: number
  /** file:line:column of the test. */
  readonly at: string
  /** What differs, in lines for people. */
  readonly problems: readonly string[]
}

export interface JobTestOptions {
  readonly job: Job
  readonly registry: Registry
  readonly log: Logger
  /** Only tests with this text in their name, whatever its case. */
  readonly filter?: string
}

/** One test after the other, as they come out. Rejects where the job does not compile. */
export async function* runJobTests(options: JobTestOptions): AsyncGenerator<TestResult> {
  const { job, filter = '' } = options
  const tests = job.tests.filter(({ name }) => name.toLowerCase().includes(filter.toLowerCase()))
  let bench: Workbench | undefined
  try {
    for (const test of tests) {
      bench ??= await openBench(options)
      yield await runTest(test, bench, options)
      // What one test has seen must not be a duplicate in the next, nor a column that it brought.
      if (bench.pipeline.stateful || job.unknown === 'evolve') {
        await bench.close()
        bench = undefined
      }
    }
  } finally {
    await bench?.close()
  }
}

function openBench({ job, registry, log }: JobTestOptions): Promise<Workbench> {
  const outputs = [MAIN, ...job.steps.flatMap(({ id, branches }) => [id, ...branches])]
  return Workbench.open({ job: { ...job, extract: [], load: [] }, registry, log, outputs })
}

async function runTest(test: JobTest, bench: Workbench, options: JobTestOptions): Promise<TestResult> {
  const started = performance.now()
  let problems: string[]
  try {
    problems = await new TestRun(test, bench, options).run()
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    problems = [`stopped by ${error.code}: ${error.message}`]
  }
  const ms = Math.round(performance.now() - started)
  return { name: test.name, ok: problems.length === 0, ms, at: options.job.at(test.path), problems }
}

class TestRun {
  readonly #test: JobTest
  readonly #bench: Workbench
  readonly #options: JobTestOptions
  readonly #refused: RefusedRow[] = []
  /** Table of the rows that came, by expected output. */
  readonly #tables = new Map<string, string>()
  #batches = 0

  constructor(test: JobTest, bench: Workbench, options: JobTestOptions) {
    this.#test = test
    this.#bench = bench
    this.#options = options
  }

  async run(): Promise<string[]> {
    const { given, expect, quarantine } = this.#test
    const clock = this.#test.clock ?? new Date().toISOString()
    // In the order in which a run reads the sources.
    for (const { id } of this.#options.job.extract)
      for (const input of given.filter(({ source }) => source === id))
        for await (const chunk of this.#chunks(input)) await this.#pass(chunk, id, clock).finally(() => chunk.release())
    const problems: string[] = []
    for (const { output, rows } of expect) problems.push(...indented(output, await this.#compare(output, rows)))
    if (quarantine !== undefined) problems.push(...indented('quarantine', compareQuarantine(quarantine, this.#refused)))
    else if (problems.length > 0 && this.#refused.length > 0)
      problems.push(...indented('refused on the way', compareQuarantine([], this.#refused).slice(1)))
    return problems
  }

  #chunks(input: TestInput): AsyncGenerator<Chunk> {
    const { job } = this.#options
    const { chunks } = this.#bench.state
    const { maxRecordBytes } = job.resources
    if ('rows' in input) return rowChunks(input.rows.map(jsonText), input.source, chunks, maxRecordBytes)
    return linesInFile(input, { ...this.#options, state: this.#bench.state })
  }

  async #pass(chunk: Chunk, source: string, clock: string): Promise<void> {
    this.#batches += 1
    // The same bytes may come in two tests: a batch of one must not be a repetition in the other.
    const range = { ...chunk.range, lane: `${this.#test.name} ${this.#batches}` }
    const token = tokenOf({ job: this.#options.job.name, source, range, epoch: '0' })
    const refined = await this.#bench.refine(chunk, { token, source, clock })
    this.#refused.push(...refined.quarantine.map((record) => ({ ...record, source })))
    for (const { output } of this.#test.expect)
      await this.#keep(output, (await this.#arrivingAt(output, refined, token)).sql)
  }

  async #keep(output: string, select: string): Promise<void> {
    const { session } = this.#bench
    const before = this.#tables.get(output)
    const table = ident(`came_${output}_${this.#batches}`)
    const all = before === undefined ? select : `SELECT * FROM ${before} UNION ALL BY NAME ${select}`
    await session.run(`CREATE OR REPLACE TEMP TABLE ${table} AS ${all}`)
    this.#tables.set(output, table)
  }

  /** The same for a consumer, after its `where` and `select`. */
  async #arrivingAt(
    output: string,
    refined?: Refined,
    token = '',
  ): Promise<{ sql: string; columns: readonly Column[] }> {
    const consumer = this.#options.job.distribute.find(({ id }) => id === output)
    if (consumer === undefined) return this.#relationOf(output, refined, token)
    const { sql, columns } = this.#relationOf(consumer.input, refined, token)
    const kept = rowsFor(consumer, columns, `(${sql})`)
    const described = await this.#bench.session.describe(kept)
    return { sql: kept, columns: described.map((column) => ({ ...column, from: [] })) }
  }

  /** Rows of a loader, of an output, or behind a step in the middle of the chain; without a batch, none of them. */
  #relationOf(output: string, refined?: Refined, token = ''): { sql: string; columns: readonly Column[] } {
    const { outputs, stages } = this.#bench.pipeline
    const name = this.#options.job.load.find(({ id }) => id === output)?.input ?? MAIN
    const isLoader = this.#options.job.load.some(({ id }) => id === output)
    const end = isLoader ? name : output
    const found = outputs.get(end)
    if (found !== undefined) {
      const { columns } = found.relation
      const relation = refined?.outputs.get(end)?.relation
      return { sql: relation === undefined ? empty(columns) : `SELECT * FROM ${relation}`, columns }
    }
    const stage = stages.find(({ id }) => id === end)
    if (stage === undefined)
      throw new AdflowError('JOB_INVALID', `there is no output ${end}`, {
        hint: `outputs: ${[...outputs.keys()].join(', ')}`,
      })
    const { columns } = stage.step.output
    if (refined === undefined) return { sql: empty(columns), columns }
    const step = refined.streamed ? stage.step : stage.guarded
    return { sql: bindSequence(withoutRow(step.output), tokenNumber(token)), columns }
  }

  async #compare(output: string, rows: JobTest['expect'][number]['rows']): Promise<string[]> {
    const { session, state } = this.#bench
    const { sql, columns } = await this.#arrivingAt(output)
    if (!this.#tables.has(output)) await this.#keep(output, sql)
    const table = this.#tables.get(output) ?? ''
    const { maxRecordBytes } = this.#options.job.resources
    return compareRows(rows, { session, folder: state.chunks, maxRecordBytes, table, columns })
  }
}

function empty(columns: readonly Column[]): string {
  return `SELECT ${columns.map(({ name, type }) => `NULL::${type} AS ${ident(name)}`).join(', ')} LIMIT 0`
}

function indented(heading: string, lines: readonly string[]): string[] {
  const [first, ...rest] = lines
  return first === undefined ? [] : [`${heading}: ${first}`, ...rest.map((line) => `  ${line}`)]
}
