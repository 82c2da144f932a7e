/** Which parts of the jobs that go on for ever this daemon runs: of a job whose state is on this machine all of them, of one whose state is
 *  shared those that it has claimed beside the other daemons. */
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import type { Job } from '../core/job/job.ts'
import type { Shard } from '../core/shard.ts'
import { ShareBook, type SharesSeen, unitName, unitOf } from '../runtime/share-book.ts'
import type { LeasePlace } from './epoch.ts'
import type { AcceptedJob } from './job-folder.ts'
import type { Act, SlotBook } from './slot-book.ts'
import { shardOf } from './streams.ts'

export interface Shares {
  /** Indices of the shards of the job, from 0; of a job without shards 0, or nothing. */
  of(job: AcceptedJob): ReadonlySet<number>
  /** Who has paused it for all daemons. */
  pausedOf(job: AcceptedJob): Act | null
}

/** Of a daemon that is alone. */
export const ALL_SHARES: Shares = {
  of: ({ job }) => allOf(job),
  pausedOf: () => null,
}

export interface SharedSharesOptions {
  readonly jobs: () => ReadonlyMap<string, AcceptedJob>
  /** Where the state of a job is shared; undefined: it is on this machine. */
  readonly placeOf: (job: Job) => LeasePlace | undefined
  /** Which runs this daemon looks after. */
  readonly book: () => SlotBook | undefined
  readonly log: Logger
  /** The shares have changed. */
  readonly changed: () => void
}

interface SharedPlace {
  readonly book: ShareBook
  seen: SharesSeen | undefined
  trouble: boolean
}

/** How often it is looked whether there are shared jobs, where there are none. */
const LOOK_MS = 1_000

export class SharedShares implements Shares {
  readonly #options: SharedSharesOptions
  readonly #self = { id: uuidv7(), name: `process ${process.pid} on ${hostname()}` }
  readonly #places = new Map<string, SharedPlace>()
  readonly #stop = new AbortController()
  #beats: Promise<void> | undefined
  #left: Promise<void> | undefined

  constructor(options: SharedSharesOptions) {
    this.#options = options
  }

  /** From now on this daemon is one of those that share. */
  start(): void {
    this.#beats ??= this.#goOn()
  }

  of({ job }: AcceptedJob): ReadonlySet<number> {
    const shared = this.#options.placeOf(job)
    if (shared === undefined) return allOf(job)
    const seen = this.#places.get(shared.place.key)?.seen
    if (seen !== undefined) return new Set([...allOf(job)].filter((index) => seen.mine.has(unitOf(job, index))))
    // Not known yet: what goes on goes on.
    return new Set(this.#runs(job).flatMap(({ index, of }) => (of === job.stream.shards ? index : [])))
  }

  pausedOf({ job }: Pick<AcceptedJob, 'job'>): Act | null {
    return this.#seenOf(job)?.paused.get(job.name) ?? null
  }

  /** For all daemons. @throws AdflowError DAEMON_REFUSED, STATE_* */
  async pause(job: Job, act: Act | null): Promise<void> {
    const shared = this.#options.placeOf(job)
    const place = shared === undefined ? undefined : (this.#places.get(shared.place.key) ?? this.#open(shared))
    if ((await place?.book.pause(job.name, act)) === true) return
    throw new AdflowError('DAEMON_REFUSED', `${job.name} is ${act === null ? 'not paused' : 'paused already'}`)
  }

  /** For people; undefined: nobody. */
  holderOf(name: string, index: number): string | undefined {
    const job = this.#options.jobs().get(name)?.job
    return job === undefined ? undefined : this.#seenOf(job)?.holders.get(unitOf(job, index))
  }

  /** Nothing is taken or given up any more. */
  stop(): void {
    this.#stop.abort()
  }

  /** Call when the runs have ended: others need not wait until this daemon was silent for long enough. */
  leave(): Promise<void> {
    this.#left ??= this.#leave()
    return this.#left
  }

  async #leave(): Promise<void> {
    this.stop()
    await this.#beats
    await Promise.all([...this.#places.values()].map(({ book }) => book.leave()))
  }

  async #goOn(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      const shared = Map.groupBy(this.#sharedJobs(), ({ at }) => at.place.key)
      const all = [...new Set([...shared.keys(), ...this.#places.keys()])]
      await Promise.all(all.map((key) => this.#beat(key, shared.get(key) ?? [])))
      const pauses = [...this.#places.values()].map(({ book }) => book.pauseMs)
      await delay(Math.min(LOOK_MS, ...pauses), undefined, { signal }).catch(() => undefined) // aborted: the loop ends
    }
  }

  async #beat(key: string, jobs: readonly SharedJob[]): Promise<void> {
    const [first] = jobs
    const place = this.#places.get(key) ?? (first === undefined ? undefined : this.#open(first.at))
    if (place === undefined) return
    const before = textOf(place.seen)
    const held = new Set(jobs.flatMap(({ job }) => this.#runs(job).map((shard) => unitName(job.name, shard))))
    const { log, changed } = this.#options
    const units = jobs.flatMap(({ job }) => [...allOf(job)].map((index) => unitOf(job, index)))
    try {
      place.seen = await place.book.beat(units, held, this.#stop.signal)
      if (place.trouble) log.info('the server that keeps the state of shared jobs answers again')
      place.trouble = false
      if (textOf(place.seen) !== before) changed()
    } catch (error) {
      if (this.#stop.signal.aborted) return
      if (!place.trouble) log.error({ err: error }, `jobs cannot be shared now: ${(error as Error).message}`)
      place.trouble = true
    }
  }

  #open({ place, baseDir }: LeasePlace): SharedPlace {
    const opened = { book: new ShareBook(place, baseDir, this.#self), seen: undefined, trouble: false }
    this.#places.set(place.key, opened)
    return opened
  }

  #seenOf(job: Job): SharesSeen | undefined {
    const shared = this.#options.placeOf(job)
    return shared === undefined ? undefined : this.#places.get(shared.place.key)?.seen
  }

  #sharedJobs(): SharedJob[] {
    return [...this.#options.jobs().values()].flatMap(({ job }) => {
      const at = job.stream.forever ? this.#options.placeOf(job) : undefined
      return at === undefined ? [] : [{ job, at }]
    })
  }

  /** Shards of which a run goes on here, or is about to: perhaps of those that the job had before. */
  #runs({ name }: Pick<Job, 'name'>): readonly Shard[] {
    const open = this.#options.book()?.job(name).open ?? []
    return open.filter(({ kind }) => kind === 'stream').map(shardOf)
  }
}

interface SharedJob {
  readonly job: Job
  readonly at: LeasePlace
}

function allOf({ stream: { shards } }: Job): ReadonlySet<number> {
  return new Set(Array.from({ length: shards }, (_, index) => index))
}

/** What of it the scheduler has to know. */
function textOf(seen: SharesSeen | undefined): string {
  return JSON.stringify([[...(seen?.mine ?? [])].sort(), [...(seen?.paused.keys() ?? [])].sort()])
}
