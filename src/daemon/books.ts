/** What is known of all jobs of a daemon, whoever decides about them. */
import { AdflowError } from '../core/errors.ts'
import type { DomainSplit } from './domains.ts'
import type { AcceptedJob } from './job-folder.ts'
import { readBook } from './journal.ts'
import type { Leading } from './leading.ts'
import type { Scheduler } from './scheduler.ts'
import type { SharedTimes } from './shared-times.ts'
import type { SharedShares } from './shares.ts'
import { type Act, type JobBook, SlotBook } from './slot-book.ts'

export interface BooksOptions {
  readonly local: Leading
  readonly times: SharedTimes
  readonly shares: SharedShares
  readonly domains: DomainSplit
  readonly jobs: () => ReadonlyMap<string, AcceptedJob>
}

export class Books {
  readonly #options: BooksOptions

  constructor(options: BooksOptions) {
    this.#options = options
  }

  /** Who decides about the job; of one that is not known the daemon of this machine. */
  leadingOf(name: string): Leading {
    const { local, times, domains, jobs } = this.#options
    const job = jobs().get(name)?.job
    const at = job === undefined ? undefined : domains.timesOf(job)
    return (at === undefined ? undefined : times.of(at.place.key)?.leading) ?? local
  }

  /** @throws AdflowError DAEMON_REFUSED */
  schedulerOf(name: string): Scheduler {
    const { scheduler } = this.leadingOf(name)
    if (scheduler === undefined) throw new AdflowError('DAEMON_REFUSED', `this daemon does not lead for ${name} yet`)
    return scheduler
  }

  /** What goes on for ever, and is shared, nobody runs while it is paused. @throws AdflowError DAEMON_REFUSED */
  async setPaused(name: string, act: Act, paused: boolean): Promise<void> {
    const { jobs, domains, shares } = this.#options
    const job = jobs().get(name)?.job
    if (job?.stream.forever === true && domains.placeOf(job) !== undefined) await shares.pause(job, paused ? act : null)
    else await this.schedulerOf(name).setPaused(name, act, paused)
  }

  /** Each job as who decides about it has it. */
  async book(): Promise<SlotBook> {
    const { local, times, jobs, shares } = this.#options
    const own = local.book ?? (await readBook(local.epochs))
    const others = await times.books()
    const merged = new SlotBook()
    for (const each of [...others, own])
      for (const [name, book] of each.jobs) if (!isSpent(merged.jobs.get(name), book)) merged.jobs.set(name, book)
    for (const [name, accepted] of jobs()) {
      const at = this.#options.domains.timesOf(accepted.job)
      const index = times.all.findIndex((each) => each.at.place.key === at?.place.key)
      const book = (others[index] ?? own).jobs.get(name)
      if (book !== undefined) merged.jobs.set(name, { ...book, paused: book.paused ?? shares.pausedOf(accepted) })
    }
    return merged
  }
}

/** A job that has moved from one to the other is in the books of both. */
function isSpent(known: JobBook | undefined, other: JobBook): boolean {
  return known !== undefined && other.removed
}
