/** The part of a job that one stage does, as a job of its own: the rest is left out, so that it need not even be right. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Column } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobColumn, JobExtractor, JobLoader } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { Engine } from '../engine/session.ts'
import { compilePipeline, MAIN } from './pipeline.ts'

const NO_RULES = { rowRules: [], batchRules: [], budgets: [] } as const
const NO_ENDS = { load: [], distribute: [] } as const

/** Sources alone. The contract stays: it says how a CSV field must look as JSON. */
export function extraction(job: Job, sources: readonly JobExtractor[]): Job {
  return { ...job, ...NO_RULES, extract: sources, steps: [], ...NO_ENDS }
}

/** Contract and rules over records. */
export function validation(job: Job): Job {
  return { ...job, extract: [], steps: [], ...NO_ENDS }
}

/** Steps over rows that were validated: they stand under the contract's names and in its types. */
export function transformation(job: Job): Job {
  return { ...job, ...NO_RULES, extract: [], ...NO_ENDS, columns: job.columns.map(validated), unknown: unknownOf(job) }
}

/** Loaders over rows that went through the steps. */
export function loading(job: Job, columns: readonly Column[], loaders: readonly JobLoader[]): Job {
  const path = ['contract', 'columns']
  return {
    ...job,
    ...NO_RULES,
    extract: [],
    columns: columns.map(({ name, type }) => validated({ ...UNTYPED, name, type, path })),
    steps: [],
    load: loaders.map((loader) => ({ ...loader, input: undefined })),
    distribute: [],
    unknown: unknownOf(job),
  }
}

/** Columns of an output of the job. Compiles all of it, reads no data. */
export async function outputColumns(job: Job, registry: Registry, output: string): Promise<readonly Column[]> {
  const tempFolder = await mkdtemp(join(tmpdir(), 'adflow-compile-'))
  const { memoryLimitBytes: memoryBytes, threads } = job.resources
  const engine = await Engine.open({ memoryBytes, threads, tempFolder, locked: false })
  const session = await engine.connect()
  try {
    const { outputs } = await compilePipeline({ job, registry, session })
    const found = outputs.get(output)
    if (found !== undefined) return found.relation.columns
    throw unknownOutput(output, [...outputs.keys()])
  } finally {
    session.close()
    engine.close()
    await rm(tempFolder, { recursive: true, force: true })
  }
}

export function unknownOutput(output: string, outputs: readonly string[]): AdflowError {
  return new AdflowError('USAGE', `the job has no output \`${output}\``, { hint: `outputs: ${outputs.join(', ')}` })
}

/** Loaders of an output; those named, where any are. */
export function loadersOf(
  job: Job,
  to: readonly string[] | undefined,
  output: string | undefined,
): { loaders: readonly JobLoader[]; output: string } {
  const inputOf = (loader: JobLoader) => loader.input ?? MAIN
  const ids = job.load.map(({ id }) => id).join(', ')
  const missing = to?.find((id) => !job.load.some((loader) => loader.id === id))
  if (missing !== undefined)
    throw new AdflowError('USAGE', `--to ${missing}: the job has no such loader`, { hint: `loaders: ${ids}` })
  const named = job.load.filter(({ id }) => to === undefined || to.includes(id))
  const wanted = output ?? (to === undefined ? MAIN : named.map(inputOf)[0]) ?? MAIN
  const loaders = named.filter((loader) => inputOf(loader) === wanted)
  if (loaders.length === 0 || (to !== undefined && loaders.length < named.length))
    throw new AdflowError('USAGE', `not every loader asked for loads the output \`${wanted}\``, {
      hint: `loaders and what they load: ${job.load.map((loader) => `${loader.id} ← ${inputOf(loader)}`).join(', ')}`,
    })
  return { loaders, output: wanted }
}

const UNTYPED = { required: false, from: '', format: undefined, description: undefined, personal: false } as const

function validated(column: JobColumn): JobColumn {
  return { ...column, from: column.name, format: undefined, required: false }
}

/** `evolve` must see the new columns; whatever else the contract says has been settled by validate. */
function unknownOf(job: Job): Job['unknown'] {
  return job.unknown === 'evolve' ? 'evolve' : 'discard_value'
}
