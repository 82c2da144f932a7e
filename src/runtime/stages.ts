/**
 * The stages of a run one by one, for pipes: rows come in as NDJSON and leave as NDJSON from which the next stage makes
 * the very same values. They share the code of the run – refine() over the part of the job that the stage does – and
 * touch neither checkpoint nor lock.
 */
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Chunk } from '../core/contracts.ts'
import { AdflowError, EXIT } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { tokenOf } from '../core/token.ts'
import { encode } from '../engine/encode.ts'
import { exactJson } from '../engine/exact-json.ts'
import { CONTRACT_RULES } from '../engine/read-plan.ts'
import { ident } from '../engine/sql-text.ts'
import { resolveType } from '../engine/types.ts'
import { Budgets } from './budgets.ts'
import { brokenBound } from './conclusion.ts'
import { memorySaver } from './memory-saver.ts'
import { MAIN } from './pipeline.ts'
import { refusedRule } from './quarantine.ts'
import type { Refined } from './refine.ts'
import type { RejectsFile } from './rejects.ts'
import type { RowOutput } from './row-output.ts'
import { transformation, unknownOutput, validation } from './stage-jobs.ts'
import { addCounts, emptyStage, type StageSummary } from './stage-summary.ts'
import { streamChunks } from './stream-chunks.ts'
import { Workbench } from './workbench.ts'

/** What pipes are called where a run names a source. No id of a job file can be the same. */
const PIPE = '(pipe)'

export interface StageInput {
  /** A path, or `stdin`. */
  readonly name: string
  open(): AsyncIterable<Uint8Array>
}

export interface StageOptions {
  readonly job: Job
  readonly registry: Registry
  readonly log: Logger
  readonly signal: AbortSignal
  /** Takes refused records; without it they are only counted. */
  readonly rejects?: RejectsFile
}

export interface RowStageOptions extends StageOptions {
  readonly inputs: readonly StageInput[]
  readonly rows: RowOutput
}

/** Contract and rules. @throws AdflowError DATA_REJECTED, NOTHING_ACCEPTED … @throws PipeClosed */
export async function validateStage(options: RowStageOptions): Promise<StageSummary> {
  const { job, log } = options
  const summary = emptyStage('validate', job.name)
  const warn = (text: string) => {
    summary.warnings.push(text)
    log.warn(text)
  }
  const budgets = new Budgets(job, memorySaver(), warn)
  const bench = await Workbench.open({ ...options, job: validation(job), outputs: [MAIN] })
  await rowStage(bench, options, summary, MAIN, (_, refined) => {
    budgets.charge(refined.counts)
    for (const { message } of refined.warnings) warn(message)
  })
  if (!options.signal.aborted) checkWhole(job, summary, warn)
  return summary
}

/** The steps. `output`: `main`, or the id of a step with an output of its own. */
export async function transformStage(options: RowStageOptions & { readonly output?: string }): Promise<StageSummary> {
  const { job, output = MAIN } = options
  const summary = emptyStage('transform', job.name)
  const bench = await Workbench.open({ ...options, job: transformation(job), outputs: [output] })
  await rowStage(bench, options, summary, output, (chunk, refined) => {
    if (options.rejects === undefined) refuseUnreadable(chunk, refined)
  })
  return summary
}

async function rowStage(
  bench: Workbench,
  options: RowStageOptions,
  summary: StageSummary,
  output: string,
  judge: (chunk: Chunk, refined: Refined) => void,
): Promise<void> {
  const { job, rejects, rows, signal } = options
  const started = Date.now()
  try {
    if (!bench.pipeline.outputs.has(output)) throw unknownOutput(output, [...bench.pipeline.outputs.keys()])
    for await (const { chunk, source } of chunksOf(bench, options)) {
      const clock = new Date().toISOString()
      const token = tokenOf({ job: job.name, source, range: chunk.range, epoch: '0' })
      const refined = await bench.refine(chunk, { token, source, clock })
      judge(chunk, refined)
      await rejects?.add({ token, source, range: chunk.range, clock, origin: chunk.origin }, refined.quarantine)
      addCounts(summary, refined.counts)
      summary.written += await writeRows(bench, refined, output, rows)
      await chunk.release()
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    summary.seconds = (Date.now() - started) / 1000
    await bench.close()
  }
}

/** Chunks of all inputs in turn; the next one is cut when it is asked for. */
export async function* chunksOf(
  bench: Workbench,
  { inputs, job, signal }: Pick<RowStageOptions, 'inputs' | 'job' | 'signal'>,
): AsyncGenerator<{ readonly chunk: Chunk; readonly source: string }> {
  const { chunkBytes, maxRecordBytes } = job.resources
  for (const [index, input] of inputs.entries()) {
    const options = { name: input.name, folder: bench.state.chunks, chunkBytes, maxRecordBytes, signal }
    // The same file twice is two inputs: their batches must not be taken for one that is repeated.
    const source = index === 0 ? PIPE : `${PIPE} ${index + 1}`
    for await (const chunk of streamChunks(input.open(), options)) yield { chunk, source }
  }
}

async function writeRows(bench: Workbench, refined: Refined, output: string, rows: RowOutput): Promise<number> {
  const found = refined.outputs.get(output)
  if (found === undefined) throw new AdflowError('UNEXPECTED', `the batch has no output ${output}`)
  const { session, state } = bench
  const columns: string[] = []
  for (const { name, type } of found.columns)
    columns.push(`${exactJson(await resolveType(session, type), ident(name))} AS ${ident(name)}`)
  const file = join(state.chunks, 'rows.ndjson')
  const select = `SELECT ${columns.join(', ')} FROM {batch}`
  const written = await encode(session, found.relation, 'ndjson', { file, select })
  await rows.file(file)
  return written
}

const UNREADABLE: ReadonlySet<string> = new Set([...Object.values(CONTRACT_RULES), refusedRule('RECORD_TOO_LARGE')])

/** Rows that are not what the stage before writes: losing them by only counting them would be wrong. */
export function refuseUnreadable(chunk: Chunk, { quarantine }: Refined): void {
  const bad = quarantine.filter(({ rule }) => UNREADABLE.has(rule))
  const [first] = bad
  if (first === undefined) return
  const field = first.field === null ? '' : `${first.field}: `
  throw new AdflowError(
    'DATA_REJECTED',
    `${bad.length} of ${chunk.records + chunk.refused.length} rows cannot be read; the first is line ${first.line} of ${chunk.origin}: ${field}${first.reason}`,
    {
      hint: 'pipe in what the stage before writes, or take such rows out with --rejects FILE; nothing of these rows went on',
      details: { rule: first.rule },
    },
  )
}

/** What only the whole stream can tell. */
function checkWhole(job: Job, summary: StageSummary, warn: (text: string) => void): void {
  const { read, written, quarantined } = summary
  for (const rule of job.batchRules) {
    if (rule.kind !== 'rows') continue
    const text = brokenBound(rule, read, written)
    if (text === undefined) continue
    if (rule.onFail === 'fail') throw new AdflowError('DATA_REJECTED', text, { hint: 'the rows were written before' })
    warn(text)
  }
  if (read > 0 && quarantined === read)
    throw new AdflowError(
      'NOTHING_ACCEPTED',
      `all ${read} records were refused (${Object.keys(summary.quarantined_by).join(', ')})`,
      { hint: 'see why with --rejects FILE; the source or the contract is wrong' },
    )
  summary.exit = EXIT.done
}
