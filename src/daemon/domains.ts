/**
 * Who decides about a job. Times of jobs whose state is shared are decided by one daemon of all that share it; what goes on for ever, and
 * jobs whose state is on this machine, by the daemon of this machine.
 */
import type { Job } from '../core/job/job.ts'
import type { StatePlace } from '../core/state-place.ts'
import type { LeasePlace } from './epoch.ts'
import type { AcceptedJob } from './job-folder.ts'

type Jobs = ReadonlyMap<string, AcceptedJob>

export interface SharedDomain {
  readonly at: LeasePlace
  readonly jobs: Jobs
}

export interface Domains {
  readonly local: Jobs
  /** By the key of the place. */
  readonly shared: ReadonlyMap<string, SharedDomain>
}

export class DomainSplit {
  /** Where the command line says that daemons share their state. */
  readonly own: LeasePlace | undefined
  #seen: Jobs = new Map()
  #domains: Domains

  constructor(own: StatePlace | undefined) {
    this.own = own === undefined ? undefined : { place: own, baseDir: process.cwd() }
    this.#domains = this.#split(this.#seen)
  }

  /** Where its state is shared; undefined: it is on this machine. */
  placeOf = ({ state, baseDir }: Job): LeasePlace | undefined =>
    state === undefined ? this.own : { place: state, baseDir }

  /** Where its times are decided; undefined: on this machine. */
  timesOf(job: Job): LeasePlace | undefined {
    return job.stream.forever ? undefined : (this.own ?? this.placeOf(job))
  }

  /** The same maps for the same jobs. */
  of(jobs: Jobs): Domains {
    if (jobs !== this.#seen) this.#domains = this.#split(jobs)
    this.#seen = jobs
    return this.#domains
  }

  #split(jobs: Jobs): Domains {
    const local = new Map<string, AcceptedJob>()
    const shared = new Map<string, SharedDomain & { readonly jobs: Map<string, AcceptedJob> }>()
    if (this.own !== undefined) shared.set(this.own.place.key, { at: this.own, jobs: new Map() })
    for (const [name, accepted] of jobs) {
      const at = this.timesOf(accepted.job)
      if (at === undefined) {
        local.set(name, accepted)
        continue
      }
      const domain = shared.get(at.place.key) ?? { at, jobs: new Map<string, AcceptedJob>() }
      domain.jobs.set(name, accepted)
      shared.set(at.place.key, domain)
    }
    return { local, shared }
  }
}
