/** One leadership from start to end: stands by, leads, drains. It has the journal and the scheduler of the jobs that it decides about. */
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { StateHome } from '../runtime/state-home.ts'
import { ChildRunner } from './child-run.ts'
import type { Clock } from './clock.ts'
import { Candidate, currentLease, type Leadership, type LeasePlace } from './epoch.ts'
import type { AcceptedJob } from './job-folder.ts'
import { Journal } from './journal.ts'
import { sleep } from './pause.ts'
import { Scheduler } from './scheduler.ts'
import type { Shares } from './shares.ts'
import type { SlotBook } from './slot-book.ts'

/** From the first signal to the end of the process, at most: less than systemd and Kubernetes give it. */
const DRAIN_MS = 24_000
const ROUND_MS = 500

export interface LeadingOptions {
  /** Has a folder for each epoch, and what runs print. */
  readonly root: string
  /** Where daemons of several machines ask for the lease; undefined: who has the folder leads. */
  readonly shared: LeasePlace | undefined
  /** For people: what it leads in. */
  readonly label?: string
  readonly program: string
  readonly home: StateHome
  readonly clock: Clock
  readonly command: string
  readonly log: Logger
  /** Runs that may go on at the same time, and how many do elsewhere in this daemon. */
  readonly parallel: number
  readonly beside: () => number
  /** What it decides about. The same map until it changes. */
  readonly jobs: () => ReadonlyMap<string, AcceptedJob>
  readonly shares: Shares
}

export interface LeadingSteps {
  /** Where the daemon answers. */
  readonly url: string
  /** The first signal. */
  readonly drain: AbortSignal
  /** Aborted: leaves at once, and its runs to whoever leads next. */
  readonly gone: AbortSignal
  /** Something was done. */
  readonly step?: () => void
  /** It leads, and its journal is open. */
  readonly prepare?: () => Promise<void>
  /** Beside the runs that are told to stop. */
  readonly draining?: () => Promise<void>
  /** All runs have ended. */
  readonly drained?: () => Promise<void>
}

export class Leading {
  readonly epochs: string
  role: 'starting' | 'standby' | 'leading' | 'draining' = 'starting'
  /** Steady time of its last round, or of the last time it asked whether anybody leads. */
  progress: number
  readonly #options: LeadingOptions
  #scheduler: Scheduler | undefined
  #journal: Journal | undefined
  /** Epoch of the leader that was told of. */
  #told: number | undefined

  constructor(options: LeadingOptions) {
    this.#options = options
    this.epochs = join(options.root, 'epochs')
    this.progress = options.clock.steady()
  }

  /** Where it leads. */
  get scheduler(): Scheduler | undefined {
    return this.#scheduler
  }

  /** The same. */
  get book(): SlotBook | undefined {
    return this.#journal?.book
  }

  lease() {
    return currentLease(this.epochs, this.#options.shared)
  }

  /** Resolves when it was told to stop and has drained. @throws AdflowError FENCED, STATE_*, LOCAL_IO: it leads no more */
  async run(steps: LeadingSteps): Promise<void> {
    const leadership = await this.#standBy(steps)
    if (leadership === undefined) return
    try {
      await this.#lead(leadership, steps)
    } finally {
      await this.#journal?.close()
      this.#journal = undefined
      this.#scheduler = undefined
      await leadership.leave()
    }
  }

  /** undefined: it was told to stop before it came to lead. */
  async #standBy({ url, drain, gone, step }: LeadingSteps): Promise<Leadership | undefined> {
    const { clock, command, log, shared } = this.#options
    const candidate = new Candidate({ epochs: this.epochs, clock, command, url, shared })
    const over = AbortSignal.any([drain, gone])
    while (!over.aborted) {
      const leadership = await candidate.stand()
      if (leadership !== undefined) return leadership
      const lease = await this.lease()
      if (this.role !== 'standby' || lease?.epoch !== this.#told)
        log.info(`stands by: process ${lease?.pid} on ${lease?.host} leads${this.#where} (epoch ${lease?.epoch})`)
      this.#told = lease?.epoch
      this.role = 'standby'
      this.#stepped(step)
      await sleep(ROUND_MS, over)
    }
    return undefined
  }

  async #lead(leadership: Leadership, steps: LeadingSteps): Promise<void> {
    const { clock, log, parallel, beside, program, home, root, jobs, shares, shared } = this.#options
    const { epoch } = leadership
    log.info({ epoch }, `leads${this.#where} (epoch ${epoch})`)
    // Until the first round nobody else would see it live.
    const pulse = setInterval(() => void leadership.beat().catch(() => undefined), ROUND_MS)
    try {
      const journal = await Journal.open(this.epochs, leadership)
      this.#journal = journal
      await steps.prepare?.()
      const by = { epochs: this.epochs, epoch, inServer: shared !== undefined }
      const runner = new ChildRunner({ program, home, outputs: join(root, 'runs'), by, clock })
      const ledgerEnd = home.ledgerEnd.bind(home)
      this.#scheduler = new Scheduler({ journal, runner, ledgerEnd, clock, log, parallel, beside, jobs, shares })
      await this.#scheduler.recover()
    } finally {
      clearInterval(pulse)
    }
    await this.#rounds(leadership, this.#scheduler, steps)
    if (steps.gone.aborted) return
    await steps.drained?.()
    await this.#journal.close()
    await leadership.release()
  }

  async #rounds(leadership: Leadership, scheduler: Scheduler, steps: LeadingSteps): Promise<void> {
    const { drain, gone, step, draining } = steps
    const round = async () => {
      await leadership.beat()
      this.#stepped(step)
    }
    const over = AbortSignal.any([drain, gone])
    const wake = () => scheduler.wake()
    over.addEventListener('abort', wake)
    try {
      while (!over.aborted) {
        await round()
        await scheduler.tick()
        this.role = 'leading'
        await scheduler.pause(ROUND_MS)
      }
    } finally {
      over.removeEventListener('abort', wake)
    }
    this.role = 'draining'
    if (!gone.aborted) await Promise.all([scheduler.drain(DRAIN_MS, round), draining?.()])
  }

  get #where(): string {
    const { label } = this.#options
    return label === undefined ? '' : ` ${label}`
  }

  #stepped(step: (() => void) | undefined): void {
    this.progress = this.#options.clock.steady()
    step?.()
  }
}
