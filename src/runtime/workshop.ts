/**
 * Everything a run works with, opened in the one order that is safe: engine, attached files, compiled SQL, reference data,
 * lock-down, sessions. From the lock-down on the engine reaches nothing but the folders named here.
 */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { explainAttachError } from '../clients/duckdb/attach.ts'
import { HostGates } from '../clients/http/host-gate.ts'
import type { AheadContext, ComponentEnv, EngineAccess, Extractor, Loader } from '../core/contracts.ts'
import type { ExtractorDefinition } from '../core/definitions.ts'
import { AdflowError, EXIT } from '../core/errors.ts'
import type { Job, JobExtractor, JobLoader } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { Engine, type Session } from '../engine/session.ts'
import { checkConsumers } from './consumer-checks.ts'
import { checkLoaders } from './loader-checks.ts'
import { compilePipeline, type Pipeline } from './pipeline.ts'
import type { Locate } from './reference-source.ts'
import { ReferenceTables } from './reference-tables.ts'
import { SessionPool } from './session-pool.ts'
import { checkShards } from './shard-checks.ts'
import type { StateDir } from './state-dir.ts'

export interface OpenSource {
  readonly config: JobExtractor
  readonly extractor: Extractor
  /** Longest time in which it may give nothing; infinite where there is no limit. */
  readonly silenceMs: number
}

export interface Workshop {
  readonly engine: Engine
  /** For work outside batches; not locked to one batch. */
  readonly session: Session
  readonly sessions: SessionPool
  readonly pipeline: Pipeline
  readonly extractors: readonly OpenSource[]
  readonly references: ReferenceTables
  /** `unavailable`: the store's file could not be attached. */
  readonly loaders: readonly {
    readonly config: JobLoader
    readonly loader: Loader
    readonly unavailable?: AdflowError
  }[]
  close(): Promise<void>
}

export interface WorkshopOptions {
  readonly job: Job
  readonly registry: Registry
  readonly state: StateDir
  readonly log: Logger
  /** Ids of the sources to read; undefined: all. */
  readonly only?: readonly string[]
  readonly evolved?: Readonly<Record<string, string>>
  /** Where to read reference data. Default: files where they are. */
  readonly locate?: Locate
  /** Folder of the versions of reference data; without it they are loaded once. */
  readonly copies?: string
  /** Stores are only looked at: their files are attached read-only, and none is made. */
  readonly readOnly?: boolean
  /** What the first source that can is told to begin meanwhile, where the stores take whole sources: see Extractor.ahead(). */
  readonly ahead?: ((source: string) => AheadContext) | undefined
}

/** For a process that opens a workshop as soon as it knows the job. */
export function prepareWorkshop(): void {
  Engine.openAhead()
}

export async function openWorkshop(options: WorkshopOptions): Promise<Workshop> {
  const { job, registry, state, log, evolved, locate, copies, readOnly = false } = options
  const { resources } = job
  // On a thread of its own: sources are made meanwhile.
  const opening = Engine.open({
    memoryBytes: resources.memoryLimitBytes,
    threads: resources.threads,
    tempFolder: resources.tempDirectory ?? state.temp,
    locked: false,
  })
  opening.catch(() => undefined) // awaited below
  const opened: OpenSource[] = []
  let begun: Session | undefined
  try {
    const made = await makeLoaders(options)
    const access = await openSources(options, opened)
    if (made.every(({ loader }) => loader.streams === 'sources')) beginAhead(options, opened)
    const engine = await opening
    const session = await engine.connect()
    begun = session
    // A mistake in the job file must leave no trace: stores are made, or opened, only after everything that can find one.
    const pipeline = await compilePipeline({
      job,
      registry,
      session,
      ...(evolved === undefined ? {} : { evolved }),
      ...(locate === undefined ? {} : { locate }),
    })
    await checkLoaders(pipeline, session, registry)
    await checkConsumers(pipeline, session, registry)
    await checkShards(pipeline, registry)
    const references = await ReferenceTables.load({ engine, session, pipeline, state, locate, copies, log })
    access.push({ folders: ReferenceTables.folders(pipeline, copies) })

    const loaders: Workshop['loaders'][number][] = []
    const attached = new Map<string, AdflowError | undefined>()
    for (const { config, loader, wants } of made) {
      const { wanted, unavailable } = await openAccess(session, attached, wants, readOnly)
      access.push(wanted)
      loaders.push({ config, loader, ...(unavailable ? { unavailable } : {}) })
    }
    if (pipeline.stateful) {
      const file = join(state.path, 'state.duckdb')
      await session.attach(file, 'state', false)
      access.push({ attach: [{ file, as: 'state' }] })
      for (const stage of pipeline.stages) for (const ddl of stage.step.state?.tables ?? []) await session.run(ddl)
    }
    for (const [name, value] of pipeline.secrets) await session.setSecret(name, value)
    await session.lockDown({
      folders: access.flatMap(({ folders }) => folders ?? []),
      attach: access.flatMap(({ attach }) => attach ?? []),
      tempFolder: resources.tempDirectory ?? state.temp,
    })
    const sessions = await SessionPool.open(engine, resources.inFlight, pipeline.secrets)
    return {
      engine,
      session,
      sessions,
      pipeline,
      extractors: opened,
      loaders,
      references,
      close: async () => {
        await references.close()
        await closeSources(opened, log)
        for (const { loader } of loaders) await loader.close()
        sessions.close()
        session.close()
        engine.close()
      },
    }
  } catch (error) {
    begun?.close()
    const engine = await opening.catch(() => undefined) // it did not open: that is the error
    engine?.close()
    await closeSources(opened, log)
    throw error
  }
}

/** Not opened: nothing is made yet that others see. */
async function makeLoaders(
  options: WorkshopOptions,
): Promise<readonly { readonly config: JobLoader; readonly loader: Loader; wants(): EngineAccess }[]> {
  const { job, registry, state } = options
  const making = job.load.map(async (config) => {
    const definition = await registry.get('loader', config.type)
    const env = environmentOf(options, config.id)
    const input = config.input ?? 'main'
    return {
      config,
      loader: definition.create(config.options, { ...env, workDir: state.chunks, input }),
      wants: () => definition.access?.(config.options, env) ?? {},
    }
  })
  return Promise.all(making)
}

/** Adds them to `opened`, and returns what they need of the engine, with the folders of the state. */
async function openSources(
  { job, registry, state, log, only }: WorkshopOptions,
  opened: OpenSource[],
): Promise<EngineAccess[]> {
  const access: EngineAccess[] = [{ folders: [state.chunks, state.spool, state.outbox, state.staged] }]
  const hosts = new HostGates()
  for (const config of job.extract.filter(({ id }) => only === undefined || only.includes(id))) {
    const definition = await registry.get('extractor', config.type)
    const env = {
      ...environmentOf({ job, state, log }, config.id),
      ...{ chunkDir: state.chunks, stageDir: state.stagedOf(config.id), hosts },
    }
    if (definition.access !== undefined) access.push(definition.access(config.options, env))
    const extractor = definition.create(config.options, env)
    const silenceMs = config.giveUpAfterMs ?? silenceOf(definition, config.options, extractor)
    opened.push({ config, extractor, silenceMs })
  }
  return access
}

function beginAhead({ ahead }: WorkshopOptions, opened: readonly OpenSource[]): void {
  const first = opened.find(({ extractor }) => extractor.ahead !== undefined)
  if (first !== undefined && ahead !== undefined) first.extractor.ahead?.(ahead(first.config.id))
}

function environmentOf({ job, state, log }: Pick<WorkshopOptions, 'job' | 'state' | 'log'>, id: string): ComponentEnv {
  return {
    id,
    job: job.name,
    ...(state.shard === undefined ? {} : { shard: state.shard }),
    baseDir: job.baseDir,
    log: log.child({ component_id: id }),
  }
}

/** A source that gives its bytes from this machine may take its time; what comes over a network may stay away for ever. */
function silenceOf({ silenceMs }: ExtractorDefinition, options: unknown, { replayable }: Extractor): number {
  return silenceMs?.(options) ?? (replayable ? Number.POSITIVE_INFINITY : 60_000)
}

const CLOSING_MS = 5000

/** A server that does not answer any more must not keep the run from ending. */
async function closeSources(sources: readonly OpenSource[], log: Logger): Promise<void> {
  const ends = sources.map(async ({ config, extractor }) => {
    const over = new AbortController()
    const late = delay(CLOSING_MS, 'late', { signal: over.signal }).catch(() => undefined)
    if ((await Promise.race([extractor.close(), late])) === 'late')
      log.warn({ source: config.id }, `the connection to ${config.id} is left open: it did not end`)
    over.abort()
  })
  const failed = (await Promise.allSettled(ends)).find((end) => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** A store whose folder cannot be made, or whose file cannot be attached, is down; the others go on without it. A file that
 *  several loaders share is attached once: `attached` has the names under which that was tried, and what came of it. */
async function openAccess(
  session: Session,
  attached: Map<string, AdflowError | undefined>,
  access: () => EngineAccess,
  readOnly: boolean,
): Promise<{ readonly wanted: EngineAccess; readonly unavailable?: AdflowError }> {
  let wanted: EngineAccess = {}
  try {
    wanted = access()
  } catch (error) {
    if (!(error instanceof AdflowError) || error.exit !== EXIT.localIo) throw error
    const { message, hint } = error
    return { wanted, unavailable: new AdflowError('STORE_UNAVAILABLE', message, { cause: error, ...hinted(hint) }) }
  }
  for (const { file, as } of wanted.attach ?? []) {
    if (!attached.has(as))
      attached.set(
        as,
        await session.attach(file, as, readOnly).then(
          () => undefined,
          (error: unknown) => explainAttachError(error, file),
        ),
      )
    const unavailable = attached.get(as)
    if (unavailable !== undefined) return { wanted, unavailable }
  }
  return { wanted }
}

function hinted(hint: string | undefined): { hint?: string } {
  return hint === undefined ? {} : { hint }
}
