/** What a stage or a test works with: the parts of a run in a temporary folder, without the state of the job. */
import { existsSync } from 'node:fs'
import { copyFile, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Chunk } from '../core/contracts.ts'
import { localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { Evolution } from './evolve.ts'
import { memorySaver } from './memory-saver.ts'
import type { Pipeline } from './pipeline.ts'
import type { Locate } from './reference-source.ts'
import type { ReferenceVersions } from './reference-tables.ts'
import { type Refined, refine } from './refine.ts'
import { openStateDir, type StateDir } from './state-dir.ts'
import type { Store } from './store.ts'
import { openWorkshop, type Workshop } from './workshop.ts'

export interface BenchOptions {
  readonly job: Job
  readonly registry: Registry
  readonly log: Logger
  /** Outputs that are read, each as often as one likes: they are put in tables. */
  readonly outputs: readonly string[]
  /** Columns that `unknown: evolve` had added: name → engine type. */
  readonly evolved?: Readonly<Record<string, string>>
  /** Where to read reference data. Default: files where they are. */
  readonly locate?: Locate
  /** Folder of the versions of reference data that batches were planned with. */
  readonly copies?: string
  /** State file of a job, of which a copy is worked on: what its steps remember. Default: they begin with nothing. */
  readonly memory?: string
  /** Stores of the job are attached read-only. */
  readonly readOnly?: boolean
}

/** How one chunk is worked on. */
export interface BenchBatch {
  readonly token: string
  readonly source: string
  /** ISO 8601 UTC: now() of the batch. */
  readonly clock: string
  readonly references?: ReferenceVersions | undefined
  readonly stores?: readonly Store[]
  /** Step by step, without the records on which an expression fails. */
  readonly guarded?: boolean
}

export class Workbench {
  readonly workshop: Workshop
  readonly state: StateDir
  readonly #root: string
  readonly #evolution: Evolution
  readonly #consumers: ReadonlyMap<string, number>
  #damaged = false

  private constructor(workshop: Workshop, state: StateDir, root: string, options: BenchOptions) {
    this.workshop = workshop
    this.state = state
    this.#root = root
    this.#consumers = new Map(options.outputs.map((name) => [name, 2]))
    this.#evolution = new Evolution({
      ...options,
      workshop,
      state,
      saver: memorySaver(),
      warn: (text) => options.log.warn(text),
    })
  }

  /** Opens the extractors and loaders that the job lists; the caller has taken out those it does not want. */
  static async open(options: BenchOptions): Promise<Workbench> {
    const { job, memory } = options
    const root = await makeFolder()
    try {
      const state = await openStateDir(root, job.name)
      if (memory !== undefined) await copyMemory(memory, state.database)
      return new Workbench(await openWorkshop({ ...options, state }), state, root, options)
    } catch (error) {
      await rm(root, { recursive: true, force: true })
      throw error
    }
  }

  /** As of the last batch: `unknown: evolve` adds columns. */
  get pipeline(): Pipeline {
    return this.#evolution.pipeline
  }

  get session(): Workshop['session'] {
    return this.workshop.session
  }

  /** One chunk after the other. */
  async refine(
    chunk: Chunk,
    { token, source, clock, references, stores = [], guarded = false }: BenchBatch,
  ): Promise<Refined> {
    await this.workshop.references.show(this.session, references)
    await this.#evolution.takeUp(chunk, this.session, stores)
    const refined = await refine(chunk, {
      session: this.session,
      pipeline: this.pipeline,
      token,
      source,
      clock,
      chunkDir: this.state.chunks,
      expectDamage: this.#damaged,
      consumers: this.#consumers,
      baseline: undefined,
      guarded,
      sweep: true,
    })
    this.#damaged = refined.damaged
    return refined
  }

  async close(): Promise<void> {
    await this.workshop.close()
    await rm(this.#root, { recursive: true, force: true })
  }
}

/** With its write-ahead log, which holds what the last transactions have done. */
async function copyMemory(from: string, to: string): Promise<void> {
  try {
    for (const ending of ['', '.wal']) if (existsSync(from + ending)) await copyFile(from + ending, to + ending)
  } catch (error) {
    throw localIoError(error, `copy ${from}`)
  }
}

async function makeFolder(): Promise<string> {
  try {
    // The engine checks real paths.
    return await realpath(await mkdtemp(join(tmpdir(), 'adflow-')))
  } catch (error) {
    throw localIoError(error, `make a temporary folder in ${tmpdir()}`)
  }
}
