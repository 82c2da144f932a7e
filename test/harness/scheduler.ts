/** A scheduler whose clock is moved by hand and whose runs start no process: they end when the test says so. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { Job } from '../../src/core/job/job.ts'
import { readSchedule, schedule } from '../../src/core/job/schedule.ts'
import type { Run, RunEnd, Runner } from '../../src/daemon/child-run.ts'
import type { Clock } from '../../src/daemon/clock.ts'
import { Candidate, type Leadership } from '../../src/daemon/epoch.ts'
import type { AcceptedJob } from '../../src/daemon/job-folder.ts'
import { Journal } from '../../src/daemon/journal.ts'
import { Scheduler } from '../../src/daemon/scheduler.ts'
import { ALL_SHARES, type Shares } from '../../src/daemon/shares.ts'
import type { OpenSlot } from '../../src/daemon/slot-book.ts'
import { ledgerEnd, type SlotRun } from '../../src/runtime/slot.ts'
import { stateDirOf } from '../../src/runtime/state-dir.ts'

export const DONE: RunEnd = { exit: 0, seconds: 1, status: 'done' }

export class MovedClock implements Clock {
  wallMs: number
  steadyMs = 0

  constructor(time: string) {
    this.wallMs = Date.parse(time)
  }

  wall(): number {
    return this.wallMs
  }

  steady(): number {
    return this.steadyMs
  }

  /** Time passes. */
  pass(ms: number): void {
    this.wallMs += ms
    this.steadyMs += ms
  }

  /** Somebody sets the clock. */
  set(time: string): void {
    this.wallMs = Date.parse(time)
  }
}

export class FakeRuns implements Runner {
  /** Slots in the order in which their runs started. */
  readonly started: string[] = []
  readonly stopped: string[] = []
  /** What goes on without this daemon having started it, and what has ended unseen. */
  readonly orphans = new Set<string>()
  readonly outcomes = new Map<string, SlotRun>()
  readonly #going = new Map<string, (end: RunEnd) => void>()

  async start(_: AcceptedJob, slot: OpenSlot): Promise<Run> {
    this.started.push(slot.id)
    return this.#run(slot)
  }

  async adopt(slot: OpenSlot): Promise<Run | undefined> {
    return this.orphans.has(slot.id) ? this.#run(slot) : undefined
  }

  async outcome(slot: OpenSlot): Promise<SlotRun | undefined> {
    return this.outcomes.get(slot.id)
  }

  get going(): string[] {
    return [...this.#going.keys()]
  }

  end(slot: string, end: RunEnd = DONE): void {
    const finish = this.#going.get(slot)
    if (finish === undefined) throw new Error(`no run of ${slot} goes on: ${this.going.join(', ')}`)
    this.#going.delete(slot)
    finish(end)
  }

  #run({ id }: OpenSlot): Run {
    const { promise, resolve } = Promise.withResolvers<RunEnd>()
    this.#going.set(id, resolve)
    return { ended: promise, stop: () => this.stopped.push(id), kill: () => this.stopped.push(id) }
  }
}

/** A state directory with one daemon after the other in it. */
export class SchedulerSite {
  readonly folder: string
  readonly clock: MovedClock
  readonly #led: LedSite[] = []
  jobs: ReadonlyMap<string, AcceptedJob> = new Map()

  private constructor(folder: string, clock: MovedClock) {
    this.folder = folder
    this.clock = clock
  }

  static async make(time: string): Promise<SchedulerSite> {
    return new SchedulerSite(await mkdtemp(join(tmpdir(), 'adflow-scheduler-')), new MovedClock(time))
  }

  get epochs(): string {
    return join(this.folder, 'epochs')
  }

  /** Name → schedule; undefined: no schedule; `until`: for ever. */
  setJobs(jobs: Readonly<Record<string, object | undefined>>): void {
    this.jobs = new Map(
      Object.entries(jobs).map(([name, value]) => {
        const forever = value !== undefined && 'until' in value
        const read = value === undefined || forever ? undefined : readSchedule(schedule.parse(value))
        const shards = forever && 'shards' in value ? Number(value.shards) : 1
        const stream = { forever, shards }
        const job = { name, file: join(this.folder, `${name}.yaml`), schedule: read, stream } as Job
        return [name, { job, digest: JSON.stringify(value ?? null), text: '' }]
      }),
    )
  }

  candidate(): Candidate {
    return new Candidate({ epochs: this.epochs, clock: this.clock, command: 'test', url: null })
  }

  async lead(options: { readonly parallel?: number; readonly shares?: Shares } = {}) {
    const leader = await this.candidate().stand()
    if (leader === undefined) throw new Error('somebody leads')
    const journal = await Journal.open(this.epochs, leader)
    const runs = new FakeRuns()
    const scheduler = new Scheduler({
      journal,
      runner: runs,
      ledgerEnd: ({ job }) => ledgerEnd(stateDirOf(this.folder, job).ledger),
      clock: this.clock,
      log: pino({ level: 'silent' }),
      parallel: options.parallel ?? 4,
      jobs: () => this.jobs,
      shares: options.shares ?? ALL_SHARES,
    })
    await scheduler.recover()
    const led = new LedSite(this, leader, journal, runs, scheduler)
    this.#led.push(led)
    return led
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const led of this.#led) await led.die()
    await rm(this.folder, { recursive: true, force: true })
  }
}

export class LedSite {
  readonly site: SchedulerSite
  readonly leader: Leadership
  readonly journal: Journal
  readonly runs: FakeRuns
  readonly scheduler: Scheduler
  #dead = false

  constructor(site: SchedulerSite, leader: Leadership, journal: Journal, runs: FakeRuns, scheduler: Scheduler) {
    this.site = site
    this.leader = leader
    this.journal = journal
    this.runs = runs
    this.scheduler = scheduler
  }

  /** Time passes, then the scheduler goes round. */
  async tick(ms = 0): Promise<void> {
    this.site.clock.pass(ms)
    await this.scheduler.tick()
  }

  /** The run ends, and the scheduler sees it. */
  async end(slot: string, end: RunEnd = DONE): Promise<void> {
    this.runs.end(slot, end)
    await new Promise((resolve) => setImmediate(resolve))
    await this.scheduler.tick()
  }

  last(job: string) {
    return this.journal.book.job(job).recent[0]
  }

  /** As when the process is gone: what it holds is released, nothing else is done. */
  async die(): Promise<void> {
    if (this.#dead) return
    this.#dead = true
    await this.journal.close()
    await this.leader.release()
  }
}
