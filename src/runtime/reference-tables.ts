/**
 * Reference data in the engine: loaded once before the lock-down, or read again beside the batches. Which versions a batch sees is
 * a part of its plan, so that a repetition of it gives the same rows.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import { redact } from '../core/job/secrets.ts'
import type { Engine, Session } from '../engine/session.ts'
import { problemsError } from './job-problems.ts'
import type { Pipeline } from './pipeline.ts'
import { type Locate, type Reference, referenceSelect } from './reference-source.ts'
import { ageText, checkKeys, type RefreshedParts, RefreshedTable } from './refreshed-table.ts'
import type { StateDir } from './state-dir.ts'

/** Reference → the version of it that a batch sees. */
export type ReferenceVersions = Readonly<Record<string, string>>

export interface LoadOptions {
  readonly engine: Engine
  /** Not locked down yet. */
  readonly session: Session
  readonly pipeline: Pipeline
  readonly state: StateDir
  readonly locate: Locate | undefined
  /** Folder of the versions; undefined: nothing is read again. */
  readonly copies: string | undefined
  readonly log: Logger
}

/** Between two attempts at what could not be read; sooner where it is read more often. */
const RETRY_MS = 10_000
/** Batches that wait for data that are too old look so often. */
const LOOK_MS = 250

export class ReferenceTables {
  readonly #tables: readonly RefreshedTable[]
  readonly #session: Session | undefined
  readonly #log: Logger
  #stop = new AbortController()
  #loops: Promise<unknown> = Promise.resolve()

  private constructor(tables: readonly RefreshedTable[], session: Session | undefined, log: Logger) {
    this.#tables = tables
    this.#session = session
    this.#log = log
  }

  static async load(options: LoadOptions): Promise<ReferenceTables> {
    const { engine, session, pipeline, state, copies, log } = options
    const { references, job } = pipeline
    const refreshed = references.filter(isRefreshed)
    const own = copies === undefined || refreshed.length === 0 ? undefined : await engine.connect()
    const tables: RefreshedTable[] = []
    try {
      for (const reference of references) {
        const file = reference.copy ?? (await fetched(reference, options))
        if (own !== undefined && copies !== undefined && isRefreshed(reference)) {
          const parts = { reference, session: own, copies, folder: state.chunks, baseDir: job.baseDir }
          const table = await RefreshedTable.open(parts, file)
          await table.show(session)
          tables.push(table)
        } else {
          await session.run(`CREATE OR REPLACE TABLE ${reference.table} AS ${referenceSelect(reference, file)}`)
          await checkKeys(session, reference, reference.table)
        }
      }
    } catch (error) {
      own?.close()
      if (error instanceof AdflowError && error.code === 'JOB_INVALID') throw problemsError(job, [error])
      throw error
    }
    return new ReferenceTables(tables, own, log)
  }

  /** Folders that the engine must be able to read. */
  static folders({ references }: Pipeline, copies: string | undefined): readonly string[] {
    return copies !== undefined && references.some(isRefreshed) ? [copies] : []
  }

  /** What a batch sees, until `release`; of a batch that was planned before what it was planned with. Undefined: nothing changes. */
  hold(planned: ReferenceVersions | undefined): ReferenceVersions | undefined {
    if (this.#tables.length === 0) return undefined
    return Object.fromEntries(
      this.#tables.map((table) => [table.reference.key, table.hold(planned?.[table.reference.key])]),
    )
  }

  release(versions: ReferenceVersions | undefined): void {
    for (const table of this.#tables) {
      const version = versions?.[table.reference.key]
      if (version !== undefined) table.release(version)
    }
  }

  /** From here on the session sees these versions. */
  async show(session: Session, versions: ReferenceVersions | undefined): Promise<void> {
    for (const table of this.#tables) await table.show(session, versions?.[table.reference.key])
  }

  /** Resolves when nothing is too old to plan with, or it was told to stop. `wait` false: @throws AdflowError SOURCE_UNREADABLE */
  async ready(wait: boolean, stop: AbortSignal): Promise<void> {
    for (const table of this.#tables)
      while (table.tooOld && !stop.aborted) {
        const { name, refresh } = table.reference
        if (!wait)
          throw new AdflowError(
            'SOURCE_UNREADABLE',
            `the reference data ${name} were read ${ageText(table.ageMs)} ago, more than \`max_age\` (${ageText(refresh.maxAgeMs ?? 0)})`,
            { hint: 'the log says why they cannot be read; the next run goes on where this one stopped' },
          )
        await sleep(LOOK_MS, undefined, { signal: stop }).catch(() => undefined) // aborted: said by the condition
      }
  }

  /** Reads the data again, each table at its times, until `close`. */
  keepFresh({
    warn,
    failed,
  }: {
    readonly warn: (text: string) => void
    readonly failed: (error: unknown) => void
  }): void {
    this.#loops = Promise.all(this.#tables.map((table) => this.#look(table, warn))).catch((error: unknown) => {
      this.#stop.abort()
      failed(error)
    })
  }

  async #look(table: RefreshedTable, warn: (text: string) => void): Promise<void> {
    const { name, refresh } = table.reference
    /** What has kept it from being read since it was last read: each kind is told once, as one that passes must not hide one that lasts. */
    const told = new Set<string>()
    while (await this.#paused(told.size > 0 ? Math.min(refresh.everyMs, RETRY_MS) : refresh.everyMs)) {
      try {
        const changed = await table.refresh(this.#stop.signal)
        if (changed || told.size > 0) this.#log.info({ reference: name }, `the reference data ${name} were read again`)
        told.clear()
      } catch (error) {
        if (this.#stop.signal.aborted) return
        if (!(error instanceof AdflowError)) throw error
        const held = table.tooOld ? '; no batch is taken up until they can be read' : ''
        const text = `the reference data ${name} cannot be read again, and stay as they were ${ageText(table.ageMs)} ago${held}: ${error.message}`
        if (told.has(error.code)) this.#log.warn({ reference: name, code: error.code }, redact(text))
        else warn(text)
        told.add(error.code)
      }
    }
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#loops
    this.#session?.close()
  }

  /** false: it was told to stop. */
  async #paused(ms: number): Promise<boolean> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => undefined) // aborted: said by the answer
    return !this.#stop.signal.aborted
  }
}

function isRefreshed(reference: Reference): reference is RefreshedParts['reference'] {
  return reference.refresh !== undefined
}

async function fetched({ source, place, name }: Reference, { locate, state, pipeline }: LoadOptions): Promise<string> {
  if (source.kind === 'file') throw new AdflowError('UNEXPECTED', `the reference data ${name} have no file`)
  const fetch = (to: string) => source.fetch(to, pipeline.job.baseDir, new AbortController().signal)
  if (locate !== undefined) return locate(place, fetch)
  const file = join(
    state.chunks,
    `fetched-${process.pid}-${pipeline.references.findIndex((one) => one.place === place)}.ndjson`,
  )
  await fetch(file)
  return file
}
