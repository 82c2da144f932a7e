/** A source of a job as the gateway sees it: who may push, how much, and where it goes. One process at a time has it. */
import { hash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { journalFolder, type PushOptions } from '../clients/push/options.ts'
import { digestOf, sameToken } from '../core/bearer.ts'
import { localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { type JobLock, lockJob } from '../runtime/lock.ts'
import { stateDirOf } from '../runtime/state-dir.ts'
import { LaneIntake } from './lane-intake.ts'
import { Rate } from './limits.ts'

export interface SourceSettings {
  readonly job: string
  readonly source: string
  /** Of the journal. */
  readonly folder: string
  readonly options: PushOptions
}

/** Whoever pushes, by the token that was given. */
export interface Pusher {
  readonly name: string
  readonly events: Rate | undefined
  readonly bytes: Rate | undefined
}

/** Sources of type `push`, by name: `job/source`. */
export function pushSourcesOf(job: Job, stateDir: string): readonly SourceSettings[] {
  return job.extract
    .filter(({ type }) => type === 'push')
    .map(({ id, options }) => {
      const parsed = options as PushOptions // of the extractor's own schema
      const folder = journalFolder(parsed, stateDirOf(stateDir, job.name).stagedOf(id), job.baseDir)
      return { job: job.name, source: id, folder, options: parsed }
    })
}

const ANYBODY: Pusher = { name: '', events: undefined, bytes: undefined }

export class PushSource {
  readonly settings: SourceSettings
  readonly lanes: ReadonlyMap<string, LaneIntake>
  readonly #pushers: readonly (Pusher & { readonly digest: Buffer })[]
  #lock: JobLock | undefined
  #failure: unknown

  constructor(settings: SourceSettings) {
    const { folder, options } = settings
    this.settings = settings
    this.lanes = new Map(options.lanes.map((lane) => [lane, new LaneIntake(join(folder, lane), options)]))
    this.#pushers = options.tokens.map(({ name, token, events_per_second: events, bytes_per_second: bytes }) => ({
      name,
      digest: digestOf(token),
      events: events === undefined ? undefined : new Rate(events),
      bytes: bytes === undefined ? undefined : new Rate(bytes),
    }))
  }

  get name(): string {
    return `${this.settings.job}/${this.settings.source}`
  }

  /** Tells whether anything else than what was given changes how requests are taken. */
  isAs(settings: SourceSettings): boolean {
    return JSON.stringify(settings) === JSON.stringify(this.settings)
  }

  /** Why nothing can be taken; undefined: all is well. */
  get failure(): unknown {
    if (this.#lock === undefined) return this.#failure ?? new Error('not open yet')
    return [...this.lanes.values()].map(({ failure }) => failure).find((failure) => failure !== undefined)
  }

  /** undefined: nobody who may push here. */
  pusher(token: string | undefined): Pusher | undefined {
    if (this.#pushers.length === 0) return ANYBODY
    if (token === undefined) return undefined
    return this.#pushers.filter(({ digest }) => sameToken(digest, token))[0]
  }

  /** @throws AdflowError JOB_LOCKED where another gateway has it, STATE_DAMAGED, LOCAL_IO */
  async open(command: string): Promise<void> {
    const { folder } = this.settings
    try {
      if (this.#lock === undefined) {
        await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
          throw localIoError(error, `make ${folder}`)
        })
        this.#lock = await lockJob(folder, { command, run: `push ${this.name}` })
      }
      for (const lane of this.lanes.values()) if (lane.failure !== undefined || !lane.isOpen) await lane.open()
      this.#failure = undefined
    } catch (error) {
      this.#failure = error
      throw error
    }
  }

  async tidy(): Promise<void> {
    for (const lane of this.lanes.values()) await lane.tidy()
  }

  /** What is on its way is durable, or was refused, when it resolves. */
  async close(): Promise<void> {
    for (const lane of this.lanes.values()) await lane.close()
    await this.#lock?.close()
    this.#lock = undefined
  }
}

/** 16 bytes; keys of different pushers are different keys. */
export function keyOf({ name }: Pusher, key: string): Buffer {
  return hash('sha256', JSON.stringify([name, key]), 'buffer').subarray(0, 16)
}
