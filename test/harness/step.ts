/** A step alone, on a real engine, run the way the runtime runs it: failing rows out, marks, drops, output. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { extname, join, resolve } from 'node:path'
import type { Column, Relation } from '../../src/core/contracts.ts'
import type { StepDefinition } from '../../src/core/definitions.ts'
import type { Analysis, CompiledStep, ReferenceSource } from '../../src/core/step-contract.ts'
import { createAnalysis } from '../../src/engine/analysis.ts'
import { ROW, withoutRow } from '../../src/engine/relation.ts'
import { bindSequence } from '../../src/engine/sequence.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { ident, literal } from '../../src/engine/sql-text.ts'

/** Where the options of a step under test stand in its job file. */
export const STEP_PATH = ['transform', 0, 'step'] as const

/** A table of typed rows, as a step receives it. */
export interface Input extends Relation {
  readonly table: string
}

export type Row = Readonly<Record<string, unknown>>

export interface StepRun {
  /** Rows in the order of ROW, without it. Integers are numbers where they are safe, text beyond. */
  readonly rows: Row[]
  readonly dropped: number[]
  /** ROWs on which an expression failed. */
  readonly failed: { readonly row: number; readonly field: string }[]
}

export class StepBench {
  /** Whether the next batch sweeps the tables of its step. */
  sweep = true
  readonly session: Session
  readonly analysis: Analysis
  readonly #engine: Engine
  readonly #folder: string
  #count = 0

  private constructor(engine: Engine, session: Session, analysis: Analysis, folder: string) {
    this.#engine = engine
    this.session = session
    this.analysis = analysis
    this.#folder = folder
  }

  static async open(files: Readonly<Record<string, string>> = {}): Promise<StepBench> {
    const folder = await mkdtemp(join(tmpdir(), 'adflow-step-'))
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
    const engine = await Engine.open({
      memoryBytes: 500_000_000,
      threads: 2,
      tempFolder: folder,
      folders: [folder],
      attach: [{ file: ':memory:', as: 'state' }],
    })
    const session = await engine.connect()
    return new StepBench(engine, session, await createAnalysis(session), folder)
  }

  async input(columns: Readonly<Record<string, string>>, rows: readonly Row[] = []): Promise<Input> {
    const types = Object.entries(columns)
    const values = rows.map(
      (row, index) => `(${[index, ...types.map(([name, type]) => valueSql(row[name], type))].join(', ')})`,
    )
    const empty = `SELECT ${['NULL::BIGINT', ...types.map(([, type]) => `NULL::${type}`)].join(', ')} WHERE false`
    const names = [ROW, ...types.map(([name]) => ident(name))].join(', ')
    const select = values.length === 0 ? empty : `VALUES ${values.join(', ')}`
    return this.inputOf(columns, `SELECT * FROM (${select}) AS t(${names})`)
  }

  /** `select` gives ROW and the columns. */
  async inputOf(columns: Readonly<Record<string, string>>, select: string): Promise<Input> {
    const table = `rows_${++this.#count}`
    const typed = Object.entries(columns).map(([name, type]) => `${ident(name)}::${type} AS ${ident(name)}`)
    await this.session.run(
      `CREATE TEMP TABLE ${table} AS SELECT ${[`${ROW}::BIGINT AS ${ROW}`, ...typed].join(', ')} FROM (${select})`,
    )
    const described = (await this.session.describe(`SELECT * FROM ${table}`)).filter(({ name }) => name !== ROW)
    return {
      table,
      sql: `SELECT * FROM ${table}`,
      columns: described.map(({ name, type }): Column => ({ name, type, from: [name] })),
    }
  }

  /** Options as they stand in a job file. Every step has its own id unless one is given. */
  async compile<Options>(
    definition: StepDefinition<Options>,
    options: unknown,
    input: Relation,
    id = `step_${++this.#count}`,
  ): Promise<CompiledStep> {
    const secrets: Promise<void>[] = []
    const compiled = await definition.compile(definition.options.parse(options), input, {
      id,
      path: STEP_PATH,
      analysis: this.analysis,
      secret: (name, value) => {
        secrets.push(this.session.setSecret(`${id}_${name}`, value))
        return `getvariable(${literal(`${id}_${name}`)})`
      },
      reference: (name, source) => this.#reference(id, name, source),
    })
    await Promise.all(secrets)
    for (const ddl of compiled.state?.tables ?? []) await this.session.run(ddl)
    return compiled
  }

  async #reference(id: string, name: string, source: ReferenceSource): Promise<{ table: string; columns: Column[] }> {
    if (source.kind === 'query') throw new Error('a step under test has its reference data in files')
    const { file } = source
    const table = ident(`reference_${id}_${name}`)
    const reader = extname(file) === '.csv' ? 'read_csv' : 'read_json'
    const path = literal(resolve(this.#folder, file))
    await this.session.run(`CREATE OR REPLACE TEMP TABLE ${table} AS SELECT * FROM ${reader}(${path})`)
    const columns = await this.session.describe(`SELECT * FROM ${table}`)
    return { table, columns: columns.map((column) => ({ ...column, from: [`${name}.${column.name}`] })) }
  }

  /** Takes the failing rows out of the input table, marks the batch, and gives the SQL of what remains. */
  async prepare(
    step: CompiledStep,
    input: Input,
    number = 1,
    lane = 'lane',
  ): Promise<{ output: string; drops?: string; failed: StepRun['failed'] }> {
    const failed: { row: number; field: string }[] = []
    for (const { field, sql, over } of step.expressions) {
      const found = await this.session.rows(
        `SELECT ${ROW} AS r FROM (${over ?? input.sql}) WHERE TRY({'v': (${sql}\n)}) IS NULL ORDER BY 1`,
      )
      const rows = found.map(({ r }) => Number(r))
      failed.push(...rows.map((row) => ({ row, field })))
      if (rows.length > 0) await this.session.run(`DELETE FROM ${input.table} WHERE ${ROW} IN (${rows.join(', ')})`)
    }
    const marks = [...(step.state?.mark(ident(input.table)) ?? []), ...(this.sweep ? (step.state?.sweep ?? []) : [])]
    await this.session.transaction(async () => {
      for (const statement of marks) await this.session.run(bindSequence(statement, number, lane))
    })
    const drops = step.drops === undefined ? {} : { drops: bindSequence(step.drops.sql, number) }
    return { output: bindSequence(step.output.sql, number), ...drops, failed }
  }

  async run(step: CompiledStep, input: Input, number = 1, lane = 'lane'): Promise<StepRun> {
    const { output, drops, failed } = await this.prepare(step, input, number, lane)
    const ordered = `SELECT * FROM (${output}) ORDER BY ${ROW}`
    return {
      rows: await this.rows(withoutRow({ sql: ordered, columns: step.output.columns })),
      dropped: drops === undefined ? [] : await this.ordinals(drops),
      failed,
    }
  }

  /** Compiles and runs over rows; returns the output rows. */
  async outcome<Options>(
    definition: StepDefinition<Options>,
    options: unknown,
    columns: Readonly<Record<string, string>>,
    rows: readonly Row[],
  ): Promise<StepRun & { step: CompiledStep }> {
    const input = await this.input(columns, rows)
    const step = await this.compile(definition, options, input)
    return { step, ...(await this.run(step, input)) }
  }

  async rows(sql: string): Promise<Row[]> {
    return (await this.session.rows(sql)).map((row) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [name, readable(value)])),
    )
  }

  async ordinals(sql: string): Promise<number[]> {
    return (await this.session.rows(`SELECT ${ROW} AS r FROM (${sql}) ORDER BY 1`)).map(({ r }) => Number(r))
  }

  async count(sql: string): Promise<number> {
    return Number(await this.session.value(`SELECT count(*) FROM (${sql})`))
  }

  async close(): Promise<void> {
    this.session.close()
    this.#engine.close()
    await rm(this.#folder, { recursive: true, force: true })
  }
}

/** A value of a test as a typed SQL literal. */
export function valueSql(value: unknown, type: string): string {
  if (value === null || value === undefined) return `NULL::${type}`
  if (typeof value === 'object') return `CAST(${literal(JSON.stringify(value))}::JSON AS ${type})`
  return `CAST(${literal(String(value))} AS ${type})`
}

function readable(value: unknown): unknown {
  if (typeof value !== 'bigint') return value
  return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
}
