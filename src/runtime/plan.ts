/** What a run would do, without doing it: no lock, no data read, nothing written. */

import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { Logger } from 'pino'
import type { Column, Positions } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobExtractor } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { LaneSurvey } from '../core/lane-survey.ts'
import type { Registry } from '../core/registry.ts'
import type { CheckpointState } from './checkpoint-slot.ts'
import { openCheckpoints } from './checkpoints.ts'
import { pathGuarantee } from './guarantee.ts'
import { openLintEngine } from './lint.ts'
import { compilePipeline, MAIN, type Pipeline } from './pipeline.ts'
import { type SqlPart, sqlOfChain } from './plan-sql.ts'
import { Spool } from './spool.ts'
import { stateDirOf } from './state-dir.ts'

export interface PlanOptions {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
}

export interface JobPlan {
  readonly schema_version: 1
  readonly job: string
  readonly file: string
  readonly state_dir: string
  /** null: the job has not run yet. */
  readonly checkpoint: { readonly generation: string; readonly saved_at: string } | null
  readonly sources: readonly PlannedSource[]
  /** Ranges that an earlier run left: they come first, exactly so. */
  readonly planned: number
  readonly contract: { readonly unknown: string; readonly columns: readonly PlannedColumn[] }
  readonly rules: readonly { readonly id: string; readonly expects: string; readonly on_fail: string }[]
  readonly steps: readonly PlannedStep[]
  readonly loaders: readonly PlannedLoader[]
  readonly consumers: readonly PlannedConsumer[]
  readonly bytes_left: number
  /** Compressed sources make more batches than this. */
  readonly batches: number
  readonly sql: readonly SqlPart[]
}

export interface PlannedSource {
  readonly id: string
  readonly type: string
  readonly optional: boolean
  readonly dataset: string
  readonly replayable: boolean
  readonly lanes: readonly {
    readonly lane: string
    readonly origin: string
    readonly state: string
    readonly at: string
    readonly end: string | null
    readonly bytes_left: number
  }[]
  readonly bytes_left: number
  readonly batches: number
  /** Why it cannot be surveyed; the run would book a gap. */
  readonly error: string | null
}

export interface PlannedColumn {
  readonly name: string
  readonly type: string
  /** Columns of the contract that it is made of; in the contract itself the field of the record. */
  readonly from: readonly string[]
}

export interface PlannedStep {
  readonly id: string
  readonly verb: string
  /** `row`: each row goes on as itself. `set`: the rows are new. */
  readonly kind: 'row' | 'set'
  readonly keeps_state: boolean
  readonly drops: string | null
  /** Columns in which personal data is hidden from here on. */
  readonly hides: readonly string[]
  readonly columns: readonly PlannedColumn[]
}

export interface PlannedLoader {
  readonly id: string
  readonly type: string
  readonly optional: boolean
  readonly input: string
  readonly dataset: string
  readonly order: string
  readonly columns: readonly PlannedColumn[]
  readonly paths: readonly { readonly source: string; readonly delivery: string; readonly because: string }[]
  readonly owed: { readonly batches: number; readonly rows: number; readonly bytes: number }
}

export interface PlannedConsumer {
  readonly id: string
  readonly type: string
  readonly optional: boolean
  readonly input: string
  readonly delivery: string
  readonly because: string
}

const TO_CONSUMER = {
  delivery: 'at least once',
  because:
    'a kill may repeat a message, under the same id and with the same bytes: a receiver that remembers ids has it once',
} as const

export async function planJob(options: PlanOptions): Promise<JobPlan> {
  const { job, registry, stateDir } = options
  const state = stateDirOf(stateDir, job.name)
  const checkpoints = existsSync(state.path) ? await openCheckpoints(state.path, job.name) : undefined
  const current = checkpoints?.fresh === false ? checkpoints.current : undefined
  const engine = await openLintEngine()
  try {
    const session = await engine.connect()
    const { evolved } = current ?? {}
    const pipeline = await compilePipeline({ job, registry, session, ...(evolved === undefined ? {} : { evolved }) })
    session.close()
    const sources: PlannedSource[] = []
    for (const config of job.extract) sources.push(await planSource(config, current, options))
    return {
      schema_version: 1,
      job: job.name,
      file: job.file,
      state_dir: state.path,
      checkpoint: current === undefined ? null : { generation: current.generation, saved_at: current.saved_at },
      sources,
      planned: current?.planned.length ?? 0,
      contract: { unknown: job.unknown, columns: contractColumns(pipeline) },
      rules: rulesOf(pipeline),
      steps: stepsOf(pipeline),
      loaders: await planLoaders(pipeline, sources, options),
      consumers: job.distribute.map(({ id, type, optional, input }) => ({ id, type, optional, input, ...TO_CONSUMER })),
      bytes_left: total(sources, 'bytes_left'),
      batches: total(sources, 'batches'),
      sql: sqlOfChain(pipeline),
    }
  } finally {
    engine.close()
  }
}

async function planSource(
  { id, type, optional, options }: JobExtractor,
  current: CheckpointState | undefined,
  { job, registry, stateDir, log }: PlanOptions,
): Promise<PlannedSource> {
  const definition = await registry.get('extractor', type)
  const state = stateDirOf(stateDir, job.name)
  const folders = { chunkDir: state.chunks, stageDir: state.stagedOf(id) }
  const extractor = definition.create(options, { id, job: job.name, baseDir: job.baseDir, log, ...folders })
  try {
    const { name } = extractor.dataset()
    const positions: Positions = current?.sources[id] ?? {}
    const { lanes, error } = await survey(() => extractor.survey(positions))
    const batches = lanes.map(({ bytesLeft }) => Math.ceil(bytesLeft / job.resources.chunkBytes))
    return {
      id,
      type,
      optional,
      dataset: redact(name),
      replayable: extractor.replayable,
      lanes: lanes.map(({ lane, origin, state, at, end, bytesLeft }) => {
        return { lane, origin, state, at, end: end ?? null, bytes_left: bytesLeft }
      }),
      bytes_left: lanes.reduce((sum, { bytesLeft }) => sum + bytesLeft, 0),
      batches: batches.reduce((sum, count) => sum + count, 0),
      error,
    }
  } finally {
    await extractor.close()
  }
}

/** A source that is down is part of the plan: the run would say the same. */
async function survey(
  ask: () => Promise<readonly LaneSurvey[]>,
): Promise<{ lanes: readonly LaneSurvey[]; error: string | null }> {
  try {
    return { lanes: await ask(), error: null }
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    return { lanes: [], error: `${error.code}: ${redact(error.message)}` }
  }
}

async function planLoaders(
  pipeline: Pipeline,
  sources: readonly PlannedSource[],
  { job, registry, stateDir, log }: PlanOptions,
): Promise<PlannedLoader[]> {
  const planned: PlannedLoader[] = []
  for (const { id, type, optional, options, input = MAIN } of job.load) {
    const definition = await registry.get('loader', type)
    const loader = definition.create(options, { id, job: job.name, baseDir: job.baseDir, log, workDir: tmpdir() })
    planned.push({
      id,
      type,
      optional,
      input,
      dataset: redact(loader.dataset().name),
      order: loader.order,
      columns: columnsOf(pipeline.outputs.get(input)?.relation.columns ?? []),
      paths: sources.map((source) => ({ source: source.id, ...pathGuarantee(source, loader.replay) })),
      owed: await owedTo(stateDirOf(stateDir, job.name).spoolOf(id)),
    })
    await loader.close()
  }
  return planned
}

async function owedTo(folder: string): Promise<PlannedLoader['owed']> {
  const spool = new Spool(folder)
  if (!existsSync(folder)) return { batches: 0, rows: 0, bytes: 0 }
  await spool.open()
  const rows = spool.rows
  return { batches: spool.size, rows, bytes: spool.bytes }
}

function contractColumns({ plan }: Pipeline): PlannedColumn[] {
  return plan.columns.map(({ name, type, from }) => ({ name, type: type.sql, from: [from] }))
}

function columnsOf(columns: readonly Column[]): PlannedColumn[] {
  return columns.map(({ name, type, from }) => ({ name, type, from }))
}

function rulesOf({ job, batchRules }: Pipeline): JobPlan['rules'] {
  const required = job.columns.filter((column) => column.required).map(({ name }) => name)
  const contract = [
    { id: 'type', expects: 'every value fits the type of its column', on_fail: 'quarantine' },
    ...(required.length === 0
      ? []
      : [{ id: 'required', expects: `there is a value in ${required.join(', ')}`, on_fail: 'quarantine' }]),
  ]
  const row = job.rowRules.map(({ id, check, onFail }) => ({ id, expects: redact(check.sql), on_fail: onFail }))
  const run = job.batchRules.flatMap((rule) =>
    rule.kind === 'rows'
      ? [{ id: rule.id, expects: `${rule.min ?? 0} to ${rule.max ?? 'any number of'} rows`, on_fail: rule.onFail }]
      : [],
  )
  const batch = batchRules
    .filter(({ id }) => run.every((rule) => rule.id !== id))
    .map(({ id, expects, onFail }) => ({ id, expects: redact(expects), on_fail: onFail }))
  const budgets = job.budgets.map(({ ratio, per, onExhausted }) => ({
    id: 'budget',
    expects: `at most ${ratio * 100}% of the records rejected per ${per === 'run' ? 'run' : `${per / 1000} s`}`,
    on_fail: onExhausted,
  }))
  return [...contract, ...row, ...batch, ...run, ...budgets]
}

function stepsOf({ stages }: Pipeline): PlannedStep[] {
  return stages.map(({ id, verb, step }) => ({
    id,
    verb,
    kind: step.kind,
    keeps_state: step.state !== undefined,
    drops: step.drops?.as ?? null,
    hides: step.hides ?? [],
    columns: columnsOf(step.output.columns),
  }))
}

function total(sources: readonly PlannedSource[], key: 'bytes_left' | 'batches'): number {
  return sources.reduce((sum, source) => sum + source[key], 0)
}
