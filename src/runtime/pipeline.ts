/**
 * Compiles a job: types of the contract, rules and steps become SQL over one table of admitted rows. Everything that can
 * be wrong in the SQL of a job file is found here, without data, and named with file:line:column.
 */
import type { Column, Relation } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobColumn, JobStep } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type {
  Analysis,
  Branch,
  CompiledStep,
  Expression,
  ReferenceRefresh,
  ReferenceSource,
  StepEnv,
} from '../core/step-contract.ts'
import { createAnalysis } from '../engine/analysis.ts'
import type { ContractColumn, ReadPlan } from '../engine/read-plan.ts'
import { ROW } from '../engine/relation.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { resolveType } from '../engine/types.ts'
import { type CompiledBatchRule, compileBatchRules } from './batch-rules.ts'
import { problemsError } from './job-problems.ts'
import { describeReference, type Locate, type Reference } from './reference-source.ts'

/** Temp view of each session over the rows of the batch in work: contract columns, `rowid`, `__ok`. */
export const ROWS_VIEW = 'batch_rows'
export const MAIN = 'main'

export interface Stage {
  readonly id: string
  readonly verb: string
  /** Over the whole chain before it, or over `inputTable`. */
  readonly step: CompiledStep
  readonly input: Relation
  /** Temp table that the runtime fills with `input` first: for steps with state. */
  readonly inputTable?: string
  /** The same step over the temp table `guard_<n>`: to find the rows on which it fails. The lineage of its columns is that of
   *  this step alone: `from` names the columns that it reads. */
  readonly guarded: CompiledStep
}

export interface Output {
  readonly name: string
  readonly relation: Relation
  /** `set`: the rows are new; they do not stand for records one by one. */
  readonly kind: 'row' | 'set'
}

export interface Pipeline {
  readonly job: Job
  readonly plan: ReadPlan
  readonly base: Relation
  readonly stages: readonly Stage[]
  /** End of the part of the chain whose rows stand for records. */
  readonly rows: Relation
  /** `main`, the named outputs and the branches. */
  readonly outputs: ReadonlyMap<string, Output>
  readonly batchRules: readonly CompiledBatchRule[]
  readonly warnRules: readonly { readonly id: string; readonly check: string }[]
  /** What the rules for rows look at. */
  readonly ruleColumns: readonly { readonly id: string; readonly columns: readonly string[] }[]
  readonly references: readonly Reference[]
  /** Variable → value; set on every session, never in SQL text. */
  readonly secrets: ReadonlyMap<string, Uint8Array>
  /** A step joins: rows may leave the chain in another order. */
  readonly reorders: boolean
  /** Batches must pass one after the other: a step keeps state. */
  readonly stateful: boolean
}

export interface CompileOptions {
  readonly job: Job
  readonly registry: Registry
  /** Not locked down yet: reference files are described. */
  readonly session: Session
  /** Columns that `unknown: evolve` has added: name → engine type. */
  readonly evolved?: Readonly<Record<string, string>>
  /** Reference tables that the engine holds already: their files are out of reach after the lock-down. */
  readonly references?: readonly Reference[]
  /** Where to read reference data. Default: files where they are. */
  readonly locate?: Locate
}

export async function compilePipeline({
  job,
  registry,
  session,
  evolved = {},
  references = [],
  locate = async (file) => file,
}: CompileOptions): Promise<Pipeline> {
  const problems: AdflowError[] = []
  const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof AdflowError) || (error.code !== 'SQL_INVALID' && error.code !== 'JOB_INVALID')) throw error
      problems.push(error)
      return undefined
    }
  }

  const columns: ContractColumn[] = []
  for (const column of [...job.columns, ...evolvedColumns(evolved)]) {
    const type = await attempt(() => contractType(session, column))
    if (type !== undefined) columns.push(type)
  }
  if (problems.length > 0) throw problemsError(job, problems)

  const analysis = await createAnalysis(session)
  const base: Relation = {
    sql: `SELECT rowid AS ${ROW}, ${columns.map((column) => ident(column.name)).join(', ')} FROM ${ROWS_VIEW} WHERE __ok`,
    columns: columns.map(({ name, type }) => ({ name, type: type.sql, from: [name] })),
  }
  const ruleColumns: { id: string; columns: readonly string[] }[] = []
  for (const { id, check } of job.rowRules) {
    const columns = await attempt(() => booleanOf(analysis, check, base))
    if (columns !== undefined) ruleColumns.push({ id, columns })
  }
  const batchRules = await attempt(() => compileBatchRules(job, base, analysis))
  const chain = new Chain({ job, registry, session, analysis, base, loaded: references, locate })
  await attempt(() => chain.compile())
  for (const loader of job.load)
    if (loader.input !== undefined && problems.length === 0 && !chain.outputs.has(loader.input))
      problems.push(
        new AdflowError('JOB_INVALID', `\`${loader.input}\` is not the output of a step`, {
          hint: `outputs: ${[...chain.outputs.keys()].join(', ')}`,
          details: { path: [...loader.path, 'input'] },
        }),
      )
  if (problems.length === 0) problems.push(...unreadBranches(job, chain.stages))
  if (problems.length > 0) throw problemsError(job, problems)

  return {
    job,
    plan: {
      columns,
      rules: job.rowRules.map((rule) => ({ id: rule.id, check: rule.check.sql, onFail: rule.onFail })),
      unknown: job.unknown,
      maxRecordBytes: job.resources.maxRecordBytes,
    },
    base,
    stages: chain.stages,
    rows: chain.rows,
    outputs: chain.outputs,
    batchRules: batchRules ?? [],
    warnRules: job.rowRules
      .filter((rule) => rule.onFail === 'warn')
      .map((rule) => ({ id: rule.id, check: rule.check.sql })),
    ruleColumns,
    references: chain.references,
    secrets: chain.secrets,
    reorders: chain.stages.some(({ step }) => step.state !== undefined || (step.references ?? []).length > 0),
    stateful: chain.stages.some((stage) => stage.step.state !== undefined),
  }
}

/** What a step sets aside would be gone. A stage of a pipe has no loaders, and reads one output. */
function unreadBranches(job: Job, stages: readonly Stage[]): AdflowError[] {
  const read = new Set([...job.load, ...job.distribute].map(({ input }) => input))
  if (read.size === 0) return []
  return stages
    .flatMap(({ step }) => step.branches ?? [])
    .filter(({ name }) => !read.has(name))
    .map(
      ({ name, path }) =>
        new AdflowError('JOB_INVALID', `nothing reads \`${name}\`: its rows would be lost`, {
          hint: `give a loader \`input: ${name}\``,
          details: { path },
        }),
    )
}

function evolvedColumns(evolved: Readonly<Record<string, string>>): JobColumn[] {
  return Object.entries(evolved).map(([name, type]) => ({
    name,
    type,
    required: false,
    from: name,
    format: undefined,
    description: undefined,
    personal: true,
    path: ['contract', 'unknown'],
  }))
}

async function contractType(session: Session, column: JobColumn): Promise<ContractColumn> {
  try {
    const type = await resolveType(session, column.type)
    const { name, required, from, format } = column
    return { name, type, required, from, ...(format === undefined ? {} : { format }) }
  } catch (error) {
    throw new AdflowError('SQL_INVALID', `\`${column.type}\` is not a type of column ${column.name}`, {
      hint: 'types are those of DuckDB: bigint, varchar, double, decimal(18,6), timestamp, date, boolean, struct(os varchar), varchar[] …',
      cause: error,
      details: { path: column.path },
    })
  }
}

async function booleanOf(analysis: Analysis, expression: Expression, input: Relation): Promise<readonly string[]> {
  const { type, from } = await analysis.row(expression, input)
  if (type !== 'BOOLEAN' && type !== '"NULL"')
    throw new AdflowError('SQL_INVALID', `a check must be true or false; this is ${type}`, {
      details: { path: expression.path },
    })
  return from
}

interface ChainParts {
  readonly job: Job
  readonly registry: Registry
  readonly session: Session
  readonly analysis: Analysis
  readonly base: Relation
  readonly loaded: readonly Reference[]
  readonly locate: Locate
}

/** The steps in order. A set-wise step with an id of its own branches off; everything else continues the chain. */
class Chain {
  readonly stages: Stage[] = []
  readonly outputs = new Map<string, Output>()
  readonly references: Reference[] = []
  readonly secrets = new Map<string, Uint8Array>()
  rows: Relation
  #current: Output
  readonly #job: Job
  readonly #registry: Registry
  readonly #session: Session
  readonly #analysis: Analysis
  readonly #loaded: readonly Reference[]
  readonly #locate: Locate

  constructor({ job, registry, session, analysis, base, loaded, locate }: ChainParts) {
    this.#loaded = loaded
    this.#locate = locate
    this.#job = job
    this.#registry = registry
    this.#session = session
    this.#analysis = analysis
    this.rows = base
    this.#current = { name: MAIN, relation: base, kind: 'row' }
  }

  async compile(): Promise<void> {
    for (const [index, step] of this.#job.steps.entries()) await this.#add(step, index)
    this.outputs.set(MAIN, this.#current)
  }

  async #add(step: JobStep, index: number): Promise<void> {
    const definition = await this.#registry.get('step', step.verb)
    const env = this.#env(step)
    const compileOver = (input: Relation) => definition.compile(step.options, input, env)
    let input = this.#current.relation
    let compiled = await compileOver(input)
    let inputTable: string | undefined
    if (compiled.state !== undefined) {
      inputTable = `input_${step.id}`
      input = { sql: `SELECT * FROM ${ident(inputTable)}`, columns: input.columns }
      const source = this.#current.relation
      compiled = await compileOver(input)
      input = { sql: source.sql, columns: input.columns }
    }
    const alone = input.columns.map(({ name, type }) => ({ name, type, from: [name] }))
    const guarded = await compileOver({ sql: `SELECT * FROM guard_${index}`, columns: alone })
    this.stages.push({
      id: step.id,
      verb: step.verb,
      step: compiled,
      input,
      ...(inputTable === undefined ? {} : { inputTable }),
      guarded,
    })
    for (const reference of compiled.references ?? []) this.#addKeys(reference)
    for (const branch of compiled.branches ?? []) this.#addBranch(branch)
    if (compiled.kind === 'set' && step.named)
      this.outputs.set(step.id, { name: step.id, relation: compiled.output, kind: 'set' })
    else {
      const kind = this.#current.kind === 'set' ? 'set' : compiled.kind
      this.#current = { name: MAIN, relation: compiled.output, kind }
      if (kind === 'row') this.rows = compiled.output
    }
  }

  #addBranch({ name, relation, path }: Branch): void {
    if (name === MAIN || this.#job.steps.some(({ id }) => id === name) || this.outputs.has(name))
      throw new AdflowError('JOB_INVALID', `there is another output or step ${name}`, { details: { path } })
    this.outputs.set(name, { name, relation, kind: 'set' })
  }

  #addKeys({ table, key }: { readonly table: string; readonly key: readonly string[] }): void {
    const index = this.references.findIndex((reference) => reference.table === table)
    const found = this.references[index]
    if (found !== undefined) this.references[index] = { ...found, keys: [...found.keys, key] }
  }

  #env(step: JobStep): StepEnv {
    return {
      id: step.id,
      path: step.path,
      analysis: this.#analysis,
      secret: (name, value) => {
        const variable = `adflow_${step.id}_${name}`
        this.secrets.set(variable, value)
        return `getvariable(${literal(variable)})`
      },
      reference: (name, source, refresh) => this.#reference(step, name, source, refresh),
    }
  }

  async #reference(
    step: JobStep,
    name: string,
    source: ReferenceSource,
    refresh: ReferenceRefresh | undefined,
  ): Promise<{ table: string; columns: readonly Column[] }> {
    const key = `${step.id}.${name}`
    const known = [...this.references, ...this.#loaded].find((reference) => reference.key === key)
    const options = { job: this.#job, step, session: this.#session, locate: this.#locate, refresh }
    const reference = known ?? (await describeReference(name, source, options))
    if (!this.references.some((other) => other.key === key)) this.references.push({ ...reference, keys: [] })
    return {
      table: reference.table,
      columns: reference.columns.map((column) => ({ ...column, from: [`${name}.${column.name}`] })),
    }
  }
}
