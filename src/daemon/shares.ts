/** Which parts of the jobs that go on for ever this daemon runs: of a job whose state is on this machine all of them, of one whose state is
 *  shared those that it has claimed beside the other daemons. */
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { uuidv7 } from '../core/ids.ts'
import type { Job } from '../core/job/job.ts'
import { ShareBook, type SharesSeen, unitOf } from '../runtime/share-book.ts'
import type { AcceptedJob } from './job-folder.ts'
import type { SlotBook } from './slot-book.ts'
import { shardOf } from './streams.ts'

export interface Shares {
  /** Indices of the shards of the job, from 0; of a job without shards 0, or nothing. */
  of(job: AcceptedJob): ReadonlySet<number>
}

export interface SharedSharesOptions {
  readonly jobs: () => ReadonlyMap<string, AcceptedJob>
  /** Which runs this daemon looks after. */
  readonly book: () => SlotBook
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
  readonly #beats: Promise<void>

  constructor(options: SharedSharesOptions) {
    this.#options = options
    this.#beats = this.#goOn()
  }

  of({ job }: AcceptedJob): ReadonlySet<number> {
    const all = Array.from({ length: job.stream.shards }, (_, index) => index)
    if (job.state === undefined) return new Set(all)
    const seen = this.#places.get(job.state.key)?.seen
    if (seen !== undefined) return new Set(all.filter((index) => seen.mine.has(unitOf(job, index))))
    // Not known yet: what goes on goes on.
    return new Set([...this.#held(job)])
  }

  /** For people; undefined: nobody. */
  holderOf(name: string, index: number): string | undefined {
    const job = this.#options.jobs().get(name)?.job
    return job?.state === undefined ? undefined : this.#places.get(job.state.key)?.seen?.holders.get(unitOf(job, index))
  }

  /** Nothing is taken or given up any more. */
  stop(): void {
    this.#stop.abort()
  }

  /** Call when the runs have ended: others need not wait until this daemon was silent for long enough. */
  async leave(): Promise<void> {
    this.stop()
    await this.#beats
    await Promise.all([...this.#places.values()].map(({ book }) => book.leave()))
  }

  async #goOn(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      const shared = Map.groupBy(this.#sharedJobs(), ({ state }) => state.key)
      const all = [...new Set([...shared.keys(), ...this.#places.keys()])]
      await Promise.all(all.map((key) => this.#beat(key, shared.get(key) ?? [])))
      const pauses = [...this.#places.values()].map(({ book }) => book.pauseMs)
      await delay(Math.min(LOOK_MS, ...pauses), undefined, { signal }).catch(() => undefined) // aborted: the loop ends
    }
  }

  async #beat(key: string, jobs: readonly SharedJob[]): Promise<void> {
    const place = this.#places.get(key) ?? this.#open(key, jobs)
    if (place === undefined) return
    const before = JSON.stringify([...(place.seen?.mine ?? [])].sort())
    const held = new Set(jobs.flatMap((job) => [...this.#held(job)].map((index) => unitOf(job, index))))
    const { log, book, changed } = this.#options
    const units = jobs
      .filter(({ name }) => book().job(name).paused === null)
      .flatMap((job) => Array.from({ length: job.stream.shards }, (_, index) => unitOf(job, index)))
    try {
      place.seen = await place.book.beat(units, held, this.#stop.signal)
      if (place.trouble) log.info('the server that keeps the state of shared jobs answers again')
      place.trouble = false
      if (JSON.stringify([...place.seen.mine].sort()) !== before) changed()
    } catch (error) {
      if (this.#stop.signal.aborted) return
      if (!place.trouble) log.error({ err: error }, `jobs cannot be shared now: ${(error as Error).message}`)
      place.trouble = true
    }
  }

  #open(key: string, [first]: readonly SharedJob[]): SharedPlace | undefined {
    if (first === undefined) return undefined
    const place = { book: new ShareBook(first.state, first.baseDir, this.#self), seen: undefined, trouble: false }
    this.#places.set(key, place)
    return place
  }

  #sharedJobs(): SharedJob[] {
    return [...this.#options.jobs().values()].flatMap(({ job }) =>
      job.stream.forever && job.state !== undefined ? [{ ...job, state: job.state }] : [],
    )
  }

  /** Shards of which a run goes on here, or is about to. */
  #held({ name }: Pick<Job, 'name'>): Set<number> {
    const { open } = this.#options.book().job(name)
    return new Set(open.filter(({ kind }) => kind === 'stream').map((slot) => shardOf(slot).index))
  }
}

type SharedJob = Job & { readonly state: NonNullable<Job['state']> }
