/**
 * The times of jobs whose state is shared: for each place where it is, this daemon stands by or leads. What it loses there, or cannot reach,
 * costs the rest of the daemon nothing: it stands by again.
 */
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { StatePlace } from '../core/state-place.ts'
import { fetchFolder } from '../runtime/shared-folder.ts'
import { daemonLease } from '../runtime/state-home.ts'
import type { Domains } from './domains.ts'
import type { LeasePlace } from './epoch.ts'
import type { AcceptedJob } from './job-folder.ts'
import { readBook } from './journal.ts'
import { Leading, type LeadingOptions, type LeadingSteps } from './leading.ts'
import { sleep, within } from './pause.ts'
import { ALL_SHARES } from './shares.ts'
import { SlotBook } from './slot-book.ts'

const AGAIN_MS = 1_000
/** Who asks what is known waits no longer for a server. */
export const ANSWER_MS = 1_500
/** Of the place that the daemon is started in: so many leases a server may stay away before the daemon gives up. */
const START_LEASES = 4
const NO_JOBS: ReadonlyMap<string, AcceptedJob> = new Map()

export interface SharedTimesOptions
  extends Pick<LeadingOptions, 'program' | 'home' | 'clock' | 'command' | 'parallel' | 'beside'> {
  readonly log: Logger
  readonly domains: () => Domains
  /** Folder of this machine for a place. */
  readonly folderOf: (at: LeasePlace) => string
  /** Key of the place that the daemon itself is started in: what is wrong with it at the start ends the daemon. */
  readonly own: string | undefined
  /** Something that ends the daemon. */
  readonly failed: (error: unknown) => void
}

export interface SharedLeading {
  readonly at: LeasePlace
  readonly leading: Leading
  /** false: when it was asked last, the server gave no answer, or none in time. */
  readonly answers: boolean
}

interface Place extends SharedLeading {
  readonly root: string
  answers: boolean
  /** The question that is under way. */
  asked: Promise<void> | undefined
  /** What was known when the server was asked last. */
  known: SlotBook
  done: Promise<void>
}

export class SharedTimes {
  readonly #options: SharedTimesOptions
  readonly #places = new Map<string, Place>()

  constructor(options: SharedTimesOptions) {
    this.#options = options
  }

  get all(): readonly SharedLeading[] {
    return [...this.#places.values()]
  }

  of(key: string): SharedLeading | undefined {
    return this.#places.get(key)
  }

  /** Stands for places that were not there before. Called again and again. */
  follow(steps: LeadingSteps): void {
    for (const [key, { at }] of this.#options.domains().shared)
      if (!this.#places.has(key)) this.#places.set(key, this.#stand(key, at, steps))
  }

  /** Resolved: all have drained, or left. */
  async end(): Promise<void> {
    await Promise.all([...this.#places.values()].map(({ done }) => done))
  }

  /** What the daemon that leads there has decided; as it was known last where the server does not answer. */
  async books(): Promise<readonly SlotBook[]> {
    return Promise.all([...this.#places.values()].map((place) => this.#bookOf(place)))
  }

  async #bookOf(place: Place): Promise<SlotBook> {
    const { book } = place.leading
    if (book !== undefined) return book
    place.asked ??= this.#ask(place).finally(() => {
      place.asked = undefined
    })
    await within(ANSWER_MS, place.asked, () => {
      place.answers = false
    })
    return place.known
  }

  async #ask(place: Place): Promise<void> {
    const { at, leading, root } = place
    try {
      await fetchFolder({ ...daemonLease(at.place, at.baseDir), path: root })
      place.known = await readBook(leading.epochs)
      place.answers = true
    } catch (error) {
      if (!(error instanceof AdflowError)) throw error
      place.answers = false
      this.#options.log.debug({ err: error }, `the times in ${at.place.label} cannot be looked at`)
    }
  }

  #stand(key: string, at: LeasePlace, steps: LeadingSteps): Place {
    const { folderOf, domains, log, program, home, clock, command, parallel, beside } = this.#options
    const root = folderOf(at)
    const leading = new Leading({
      ...{ root, shared: at, label: `the times in ${at.place.label}`, program, home, clock, command, log, parallel },
      beside: () => beside() + this.#countedBut(key),
      jobs: () => domains().shared.get(key)?.jobs ?? NO_JOBS,
      shares: ALL_SHARES,
    })
    const done = this.#goOn(key, at.place, leading, steps)
    return { at, leading, root, answers: true, asked: undefined, known: new SlotBook(), done }
  }

  #countedBut(key: string): number {
    return [...this.#places].reduce(
      (sum, [other, { leading }]) => sum + (other === key ? 0 : (leading.scheduler?.counted ?? 0)),
      0,
    )
  }

  async #goOn(key: string, { leaseMs }: StatePlace, leading: Leading, steps: LeadingSteps): Promise<void> {
    const { log, own, failed } = this.#options
    let told = ''
    const patientMs = leaseMs * START_LEASES
    const begunMs = performance.now()
    const over = AbortSignal.any([steps.drain, steps.gone])
    while (!over.aborted) {
      try {
        await leading.run({ ...steps, step: () => (told = '') })
      } catch (error) {
        const starts = key === own && leading.role === 'starting'
        const patient = isAway(error) && performance.now() - begunMs < patientMs
        if (!mayPass(error) || (starts && !patient)) return failed(error)
        const next = starts ? `it is asked again for ${patientMs / 1000} s` : 'this daemon stands by'
        if (error.message !== told) log.error({ err: error }, `${error.message}; ${next}`)
        told = error.message
        if (!starts) leading.role = 'standby'
        await sleep(AGAIN_MS, over)
      }
    }
  }
}

function isAway(error: unknown): boolean {
  return error instanceof AdflowError && error.code === 'STATE_UNREACHABLE'
}

function mayPass(error: unknown): error is AdflowError {
  return error instanceof AdflowError && (error.code === 'FENCED' || error.code.startsWith('STATE_'))
}
