/** The stores of a job, open for reading: their rows as relations of one engine session, each with the number of its batch. */

import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { Logger } from 'pino'
import { explainAttachError } from '../clients/duckdb/attach.ts'
import type { Loader } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobLoader } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { StoreContents } from '../core/store-contract.ts'
import type { Session } from '../engine/session.ts'
import { compilePipeline, MAIN, type Output, type Pipeline } from '../runtime/pipeline.ts'

export interface OpenLoader {
  readonly id: string
  /** What it is given, by the job of today. */
  readonly output: Output
  readonly loader: Loader
}

export interface OpenStore extends OpenLoader {
  readonly contents: StoreContents
}

export interface Opened<Store extends OpenLoader> {
  readonly open: readonly Store[]
  /** Why the others are not. */
  readonly closed: Readonly<Record<string, AdflowError>>
}

export interface StoresOptions {
  readonly job: Job
  readonly registry: Registry
  readonly log: Logger
  /** Not locked down: files are attached read-only. */
  readonly session: Session
  /** Ids of the stores to open; undefined: all. */
  readonly only?: readonly string[]
}

/** Stores whose rows can be read back. @throws AdflowError USAGE for a store that the job does not have. */
export async function openStores(options: StoresOptions): Promise<Opened<OpenStore>> {
  const { session, job } = options
  return openEach(options, async (opened) => {
    if (opened.loader.contents === undefined)
      throw new AdflowError('USAGE', `rows of store ${opened.id} cannot be read back`, {
        hint: 'its loader has no way to do so; see `adflow components describe`',
      })
    const { columns } = opened.output.relation
    return { ...opened, contents: await opened.loader.contents({ engine: session, job: job.name, columns }) }
  })
}

/** Their files are attached, and nothing is read. */
export function openLoaders(options: StoresOptions): Promise<Opened<OpenLoader>> {
  return openEach(options, async (opened) => opened)
}

async function openEach<Store extends OpenLoader>(
  { job, registry, log, session, only }: StoresOptions,
  open: (opened: OpenLoader) => Promise<Store>,
): Promise<Opened<Store>> {
  const unknown = only?.find((id) => !job.load.some((config) => config.id === id))
  if (unknown !== undefined)
    throw new AdflowError('USAGE', `job ${job.name} has no store ${unknown}`, {
      hint: `its stores: ${job.load.map(({ id }) => id).join(', ')}`,
    })
  const pipeline = await compilePipeline({ job, registry, session })
  const stores: Store[] = []
  const closed: Record<string, AdflowError> = {}
  const attached = new Set<string>()
  for (const config of job.load.filter(({ id }) => only?.includes(id) ?? true)) {
    try {
      stores.push(await open(await openLoader(config, { job, registry, log, session, pipeline, attached })))
    } catch (error) {
      if (!(error instanceof AdflowError)) throw error
      closed[config.id] = error
    }
  }
  return { open: stores, closed }
}

async function openLoader(
  config: JobLoader,
  {
    job,
    registry,
    log,
    session,
    pipeline,
    attached,
  }: Omit<StoresOptions, 'only'> & { readonly pipeline: Pipeline; readonly attached: Set<string> },
): Promise<OpenLoader> {
  const definition = await registry.get('loader', config.type)
  const env = { id: config.id, job: job.name, baseDir: job.baseDir, log, workDir: tmpdir() }
  for (const { file, as } of definition.access?.(config.options, env).attach ?? []) {
    if (attached.has(as)) continue
    if (!existsSync(file))
      throw new AdflowError('STORE_UNAVAILABLE', `store ${config.id}: ${file} is not there`, {
        hint: 'the job has not loaded anything yet, or the file was moved or removed; nothing was changed',
      })
    await session.attach(file, as, true).catch((error: unknown) => {
      throw explainAttachError(error, file)
    })
    attached.add(as)
  }
  const output = pipeline.outputs.get(config.input ?? MAIN)
  if (output === undefined) throw new AdflowError('UNEXPECTED', `there is no output ${config.input} for ${config.id}`)
  return { id: config.id, output, loader: definition.create(config.options, env) }
}
