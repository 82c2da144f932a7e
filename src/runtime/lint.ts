/** Checks job files without data and without a trace: every mistake at its place, and what its author may not have meant. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { Environment } from '../core/job/interpolate.ts'
import type { Job } from '../core/job/job.ts'
import { loadJob } from '../core/job/load.ts'
import type { Problem } from '../core/job/problems.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import { Engine, type Session } from '../engine/session.ts'
import { checkConsumers } from './consumer-checks.ts'
import { checkGraph } from './lint-graph.ts'
import { checkLoaders } from './loader-checks.ts'
import { personalColumns } from './personal.ts'
import { compilePipeline, MAIN, type Pipeline } from './pipeline.ts'
import { checkShards } from './shard-checks.ts'

export interface LintOptions {
  readonly registry: Registry
  readonly log: Logger
  /** Records per second for which the size of state is estimated. */
  readonly rate: number
  /** Where `${…}` finds its values. Default: the process's environment. */
  readonly env?: Environment
}

export const LINT_RULES = ['personal_data', 'unbounded_state', 'duplicates', 'loader', 'consumer'] as const

export interface LintWarning extends Problem {
  readonly rule: (typeof LINT_RULES)[number]
}

/** State that a step keeps, at the stated rate. */
export interface StateEstimate {
  readonly step: string
  readonly bytes_per_row: number
  /** null: nothing is ever deleted. */
  readonly kept_seconds: number | null
  /** After `kept_seconds`; of one day where nothing is deleted. */
  readonly bytes: number
}

export interface LintedFile {
  readonly file: string
  /** null: the file has mistakes. */
  readonly job: string | null
  readonly problems: readonly Problem[]
  readonly warnings: readonly LintWarning[]
  readonly state: readonly StateEstimate[]
}

export interface LintReport {
  readonly schema_version: 1
  /** Records per second of the estimates. */
  readonly rate: number
  readonly files: readonly LintedFile[]
}

export async function lintJobs(files: readonly string[], options: LintOptions): Promise<LintReport> {
  const engine = await openLintEngine()
  try {
    const linted: LintedFile[] = []
    for (const file of files) linted.push(await lintFile(file, engine, options))
    return { schema_version: 1, rate: options.rate, files: linted }
  } finally {
    engine.close()
  }
}

/** In memory and not locked down, so that reference files can be described. */
export function openLintEngine(): Promise<Engine> {
  const tempFolder = join(tmpdir(), `adflow-lint-${process.pid}`)
  return Engine.open({ memoryBytes: 256e6, threads: 1, tempFolder, locked: false })
}

async function lintFile(file: string, engine: Engine, options: LintOptions): Promise<LintedFile> {
  const session = await engine.connect()
  try {
    const { registry, env } = options
    const loading = { registry, ...(env === undefined ? {} : { env }) }
    const job = await loadJob(file, loading)
    await checkGraph(job, loading)
    const pipeline = await compilePipeline({ job, registry, session })
    const loaders = await loaderWarnings(pipeline, session, options)
    const consumers = (await checkConsumers(pipeline, session, registry)).map(({ message, hint, path }) =>
      warning(job, 'consumer', path, message, hint),
    )
    await checkShards(pipeline, registry)
    const state = estimates(pipeline, options.rate)
    const warnings = [
      ...personalWarnings(pipeline),
      ...stateWarnings(pipeline, state, options.rate),
      ...loaders,
      ...consumers,
    ]
    return { file, job: job.name, problems: [], warnings, state }
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    return { file, job: null, problems: problemsOf(error, file), warnings: [], state: [] }
  } finally {
    session.close()
  }
}

function problemsOf(error: AdflowError, file: string): readonly Problem[] {
  const listed = error.details?.['problems'] as readonly Problem[] | undefined
  if (listed !== undefined) return listed
  const suggestion = error.hint === undefined ? {} : { suggestion: redact(error.hint) }
  return [{ at: `${file}:1:1`, message: redact(error.message), ...suggestion, excerpt: '' }]
}

function warning(
  job: Job,
  rule: LintWarning['rule'],
  path: readonly (string | number)[],
  message: string,
  suggestion?: string,
): LintWarning {
  const more = suggestion === undefined ? {} : { suggestion }
  return { rule, at: job.at(path), message, ...more, excerpt: job.excerpt(path) }
}

function personalWarnings(pipeline: Pipeline): LintWarning[] {
  const { job } = pipeline
  const shown = personalColumns(pipeline)
  const stores = job.load.map((loader) => ({
    what: `the store ${loader.id}`,
    path: loader.path,
    columns: [...(shown.get(loader.input ?? MAIN) ?? [])],
  }))
  const consumers = job.distribute.map((consumer) => ({
    what: `the consumer ${consumer.id}`,
    path: consumer.path,
    // A selected expression may show a column whatever it does with it; a bare name does so for certain.
    columns: [...(shown.get(consumer.input) ?? [])].filter(
      ([column]) =>
        consumer.select?.some(({ expression }) => expression.sql.toLowerCase() === column.toLowerCase()) ?? true,
    ),
  }))
  return [...stores, ...consumers].flatMap(({ what, path, columns }) =>
    columns.map(([column, sources]) => {
      const of = sources.length === 1 && sources[0] === column ? '' : ` (from ${sources.join(', ')})`
      return warning(
        job,
        'personal_data',
        job.columns.find(({ name }) => name === sources[0])?.path ?? path,
        `personal data reach ${what} as they are: column ${column}${of}`,
        `mask it before: \`- mask: { ${column}: hmac, key: … }\``,
      )
    }),
  )
}

const DAY_MS = 86_400_000

function estimates(pipeline: Pipeline, rate: number): StateEstimate[] {
  return pipeline.stages.flatMap(({ id, step: { state } }) => {
    if (state === undefined) return []
    const keptMs = state.bounded ? state.keptMs : undefined
    const bytes = Math.round((state.bytesPerRow * rate * (keptMs ?? DAY_MS)) / 1000)
    return [
      { step: id, bytes_per_row: state.bytesPerRow, kept_seconds: keptMs === undefined ? null : keptMs / 1000, bytes },
    ]
  })
}

function stateWarnings({ job, stages }: Pipeline, state: readonly StateEstimate[], rate: number): LintWarning[] {
  return stages.flatMap(({ id, step }) => {
    const estimate = state.find((each) => each.step === id)
    if (step.state === undefined || step.state.bounded || estimate === undefined) return []
    const perDay = (estimate.bytes / 1e9).toFixed(1)
    const path = job.steps.find((each) => each.id === id)?.path ?? []
    const message = `the step ${id} remembers every key for ever: about ${perDay} GB more a day at ${rate} new keys a second`
    return [warning(job, 'unbounded_state', path, message, 'give it a bound: `within: 7d` and the `time` column')]
  })
}

/** @throws AdflowError JOB_INVALID with the mistakes of all loaders. */
async function loaderWarnings(
  pipeline: Pipeline,
  session: Session,
  { registry, log }: LintOptions,
): Promise<LintWarning[]> {
  const { job } = pipeline
  const remarks = await checkLoaders(pipeline, session, registry)
  const warnings = remarks.map(({ message, hint, path }) => warning(job, 'loader', path, message, hint))
  for (const { id, type, options, path } of job.load) {
    const definition = await registry.get('loader', type)
    const { replay } = definition.create(options, { id, job: job.name, baseDir: job.baseDir, log, workDir: tmpdir() })
    if (replay === 'duplicates')
      warnings.push(
        warning(job, 'duplicates', path, `the store ${id} takes a batch twice when a run is repeated after a crash`),
      )
  }
  return warnings
}
