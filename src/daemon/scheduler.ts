/**
 * The loop of the leader: decide what is due, claim it in the journal, start what may start, book what has ended. A claim is
 * durable before its run starts, and every run says at its start, under the lock of the job, whether it may still be.
 */
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { JobSchedule } from '../core/job/schedule.ts'
import type { LedgerPlace } from '../runtime/slot.ts'
import type { JobPart } from '../runtime/state-home.ts'
import { ActiveRuns } from './active-runs.ts'
import { Alarm } from './alarm.ts'
import type { RunEnd, Runner } from './child-run.ts'
import { Claims } from './claims.ts'
import type { Clock } from './clock.ts'
import { type Decision, dueAfter, dueByCron, quietUntil } from './due.ts'
import { jobChanges } from './job-changes.ts'
import type { AcceptedJob } from './job-folder.ts'
import type { Journal } from './journal.ts'
import { Requests } from './requests.ts'
import type { Shares } from './shares.ts'
import type { Act, JobBook, OpenSlot, SlotEnd } from './slot-book.ts'
import { slotEnd } from './slot-end.ts'
import { decideStream } from './streams.ts'
import { verdictOn } from './verdict.ts'

/** Beyond what any change of summer time or any correction would do: the clock was wrong. */
const WRONG_CLOCK_MS = 25 * 3_600_000

export interface SchedulerOptions {
  readonly journal: Journal
  readonly runner: Runner
  /** Where the ledger of a job ends now. */
  readonly ledgerEnd: (part: JobPart) => Promise<LedgerPlace>
  readonly clock: Clock
  readonly log: Logger
  /** Runs that may go on at the same time. */
  readonly parallel: number
  /** How many of those go on elsewhere in this daemon. */
  readonly beside?: () => number
  /** What is decided about here. */
  readonly jobs: () => ReadonlyMap<string, AcceptedJob>
  readonly shares: Shares
}

export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #active: ActiveRuns
  readonly #claims: Claims
  /** Slot → steady time before which it is not started again. */
  readonly #notBefore = new Map<string, number>()
  readonly #quiet = new Map<string, { readonly key: string; readonly until: number }>()
  #accepted: ReadonlyMap<string, AcceptedJob> | undefined
  #draining = false
  readonly #alarm = new Alarm()
  readonly #requests = new Requests(() => this.#alarm.ring())
  ticks = 0

  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#active = new ActiveRuns(options.clock, this.wake)
    this.#claims = new Claims(options, this.#active)
  }

  get active(): readonly { readonly slot: OpenSlot; readonly seconds: number }[] {
    const now = this.#options.clock.steady()
    return this.#active.all.map(({ slot, since }) => ({ slot, seconds: (now - since) / 1000 }))
  }

  /** Runs that go on and will end. */
  get counted(): number {
    return this.#active.all.filter(({ slot: { kind } }) => kind !== 'stream').length
  }

  /** Takes over what the last leader has left: runs that go on, and runs that ended when nobody was there to book them. */
  async recover(): Promise<void> {
    for (const slot of this.#options.journal.book.open) await this.#recoverSlot(slot)
  }

  async #recoverSlot(slot: OpenSlot): Promise<void> {
    const { runner, log } = this.#options
    if (slot.attempts === 0) return
    const run = await runner.adopt(slot)
    if (run !== undefined) {
      log.info({ job: slot.job, slot: slot.id }, `the run for ${slot.id} goes on; this daemon looks after it now`)
      this.#active.watch(slot, run)
      return
    }
    const had = await runner.outcome(slot)
    if (had === undefined || had.status === 'interrupted') return
    const { run: id, ...rest } = had
    log.info(
      { job: slot.job, slot: slot.id, run: id },
      `the run for ${slot.id} had ended when nobody was there to book it`,
    )
    await this.#finish(slot, { ...rest, seconds: 0 }, false)
  }

  /** One round. Resolved: everything that was due is decided and on disk. */
  async tick(): Promise<void> {
    this.#active.check()
    await this.#bookEnds()
    await this.#noteJobs()
    await this.#requests.work()
    if (!this.#draining) {
      await this.#decide()
      await this.#decideStreams()
      this.#active.enforce(({ job }) => this.#options.jobs().get(job)?.job.schedule?.timeoutMs)
      await this.#startWaiting()
    }
    this.ticks += 1
  }

  /** Resolves after so long, or as soon as something has ended or was asked for. */
  pause(ms: number): Promise<void> {
    if (this.#active.someEnded || this.#requests.some) return Promise.resolve()
    return this.#alarm.pause(ms)
  }

  wake = (): void => this.#alarm.ring()

  /** Nothing new is started, runs are told to stop. Resolved: all of them have ended, or were killed after `limitMs`. What they
   *  have not finished stays claimed, and the next leader goes on with it. */
  async drain(limitMs: number, each: () => Promise<void>): Promise<void> {
    this.#draining = true
    for (const { run } of this.#active.all) run.stop()
    const until = this.#options.clock.steady() + limitMs
    while (this.#active.all.length > 0 && this.#options.clock.steady() < until) {
      await this.pause(200)
      await each()
      await this.#bookEnds()
    }
    for (const { run } of this.#active.all) run.kill()
  }

  /** At once: the state of every job is consistent at every instant. */
  abandon(): void {
    for (const { run } of this.#active.all) run.kill()
  }

  /** Claims a time that a person asked for; resolves to its id. @throws AdflowError DAEMON_REFUSED */
  trigger(name: string, act: Act): Promise<string> {
    return this.#requests.ask(() => this.#trigger(name, act))
  }

  /** @throws AdflowError DAEMON_REFUSED */
  setPaused(name: string, act: Act, paused: boolean): Promise<void> {
    return this.#requests.ask(() => this.#setPaused(name, act, paused))
  }

  async #trigger(name: string, act: Act): Promise<string> {
    const book = this.#known(name)
    const waiting = book.open.filter(({ kind }) => kind === 'manual').length
    if (waiting > 1) throw refused(`two runs of ${name} that were asked for wait already`)
    if (this.#options.jobs().get(name)?.job.stream.forever === true) throw refused(`${name} goes on by itself`)
    return this.#claims.claim(name, this.#claims.freeTime(book), 'manual', { act })
  }

  async #setPaused(name: string, act: Act, paused: boolean): Promise<void> {
    const book = this.#known(name)
    if (paused === (book.paused !== null)) throw refused(`${name} is ${paused ? 'paused already' : 'not paused'}`)
    await this.#options.journal.append([{ type: paused ? 'paused' : 'resumed', job: name, act }])
  }

  #known(name: string): JobBook {
    if (!this.#options.jobs().has(name)) throw refused(`there is no job ${name}`)
    return this.#options.journal.book.job(name)
  }

  async #noteJobs(): Promise<void> {
    const jobs = this.#options.jobs()
    if (jobs === this.#accepted) return
    const { journal, clock } = this.#options
    await journal.append(
      jobChanges({
        book: journal.book,
        jobs,
        before: this.#accepted,
        nowMs: clock.wall(),
        isActive: ({ id }) => this.#active.get(id) !== undefined,
        removed: (slot) => this.#endOf(slot, 'removed', { exit: null, seconds: 0, status: 'removed' }),
      }),
    )
    this.#accepted = jobs
  }

  async #decide(): Promise<void> {
    const { journal, clock, log } = this.#options
    const now = clock.wall()
    for (const [name, { job, digest }] of this.#options.jobs()) {
      const { schedule } = job
      if (schedule === undefined) continue
      const book = journal.book.job(name)
      if (book.watermark > now + WRONG_CLOCK_MS) {
        const until = new Date(book.watermark).toISOString()
        log.error(
          { job: name, until },
          `the clock is or was wrong: ${name} has been decided up to ${until}; going on from now`,
        )
        await journal.append([{ type: 'clock_reset', job: name, to: now }])
      }
      if (schedule.after.length > 0) await this.#decideAfter(name, schedule.after, book)
      else if (now >= this.#quietUntil(name, digest, schedule, book))
        for (const decision of dueByCron(name, schedule, book, now)) await this.#act(name, book, decision)
    }
  }

  /** What goes on for ever, and what did and is to end. */
  async #decideStreams(): Promise<void> {
    const { journal, shares } = this.#options
    const { book } = journal
    const jobs = this.#options.jobs()
    for (const name of new Set([...jobs.keys(), ...book.jobs.keys()])) {
      const job = book.job(name)
      const accepted = jobs.get(name)
      const mine = accepted === undefined ? new Set<number>() : shares.of(accepted)
      const paused = job.paused ?? (accepted === undefined ? null : shares.pausedOf(accepted))
      const { cancel, claim } = decideStream({ ...job, paused }, accepted, mine)
      for (const { slot, why } of cancel) await this.#claims.cancel(slot, why)
      for (const shard of claim) {
        const about = { digest: accepted?.digest ?? '', ...(shard === undefined ? {} : { shard }) }
        await this.#claims.claim(name, this.#claims.freeTime(job), 'stream', about)
      }
    }
  }

  /** Asking a pattern for its next time is the dearest part of a round, and the answer is mostly the one before. */
  #quietUntil(name: string, digest: string, schedule: JobSchedule, book: JobBook): number {
    const key = `${digest} ${book.watermark}`
    const known = this.#quiet.get(name)
    if (known?.key === key) return known.until
    const until = quietUntil(name, schedule, book) ?? Number.POSITIVE_INFINITY
    this.#quiet.set(name, { key, until })
    return until
  }

  async #act(name: string, book: JobBook, decision: Decision): Promise<void> {
    const { journal, log } = this.#options
    if (decision.type === 'claim') {
      await this.#claims.claim(name, decision.at, decision.kind, {})
      return
    }
    if (decision.type === 'cancel') {
      for (const slot of [...book.open]) await this.#claims.cancel(slot, 'a later time has come')
      return
    }
    const { from, to, reason, count } = decision
    const what = count === 1 ? new Date(to).toISOString() : `${count} times up to ${new Date(to).toISOString()}`
    log[reason === 'paused' ? 'info' : 'warn'](
      { job: name, reason, to: new Date(to).toISOString(), count },
      `${name}: no run for ${what} (${reason})`,
    )
    await journal.append([{ type: 'passed', job: name, from, to, reason, count }])
  }

  async #decideAfter(name: string, after: readonly string[], book: JobBook): Promise<void> {
    const { journal } = this.#options
    const due = dueAfter(after, book, (each) => journal.book.job(each))
    if (due === undefined) return
    const { at, consumed } = due
    if (book.paused !== null) {
      await journal.append([{ type: 'passed', job: name, from: at - 1, to: at, reason: 'paused', count: 1, consumed }])
      return
    }
    // One run answers all that has happened meanwhile: it waits for the one that goes on.
    if (book.open.length === 0) await this.#claims.claim(name, at, 'after', { consumed })
  }

  async #startWaiting(): Promise<void> {
    const { clock, parallel, beside = () => 0 } = this.#options
    const jobs = this.#options.jobs()
    const busy = new Set(this.#active.all.map(({ slot }) => partOf(slot)))
    const priority = (slot: OpenSlot) => jobs.get(slot.job)?.job.schedule?.priority ?? 50
    const ready = this.#options.journal.book.open
      .filter((slot) => jobs.has(slot.job) && this.#active.get(slot.id) === undefined)
      .filter((slot) => (this.#notBefore.get(slot.id) ?? 0) <= clock.steady())
      .sort((a, b) => priority(b) - priority(a) || a.at - b.at)
    for (const slot of ready) {
      const job = jobs.get(slot.job)
      if (job === undefined || busy.has(partOf(slot))) continue
      // What goes on for ever would hold its place for ever.
      if (slot.kind !== 'stream' && this.counted + beside() >= parallel) continue
      busy.add(partOf(slot))
      await this.#start(job, slot)
    }
  }

  async #start(job: AcceptedJob, slot: OpenSlot): Promise<void> {
    const { journal, runner, log } = this.#options
    await journal.append([{ type: 'started', slot: slot.id, job: slot.job }])
    const open = journal.book.job(slot.job).open.find(({ id }) => id === slot.id) ?? slot
    log.info({ job: slot.job, slot: slot.id, attempt: open.attempts }, `runs ${slot.id}`)
    this.#active.watch(open, await runner.start(job, open))
  }

  async #bookEnds(): Promise<void> {
    for (let next = this.#active.takeEnd(); next !== undefined; next = this.#active.takeEnd())
      await this.#finish(this.#current(next.active.slot), next.end, next.active.timedOut)
  }

  #current(slot: OpenSlot): OpenSlot {
    return this.#options.journal.book.job(slot.job).open.find(({ id }) => id === slot.id) ?? slot
  }

  async #finish(slot: OpenSlot, printed: RunEnd, timedOut: boolean): Promise<void> {
    const { journal, runner, log } = this.#options
    // Killed after the last line of its ledger and before it could say so.
    const had = printed.result === undefined && printed.exit === null ? await runner.outcome(slot) : undefined
    const end = had === undefined ? printed : { ...printed, status: had.status, exit: had.exit }
    const { retries } = this.#options.jobs().get(slot.job)?.job.schedule ?? {}
    const stream = slot.kind === 'stream'
    const verdict = verdictOn(slot, end, { draining: this.#draining, timedOut, retries, stream })
    const about = { job: slot.job, slot: slot.id, exit: end.exit, code: end.code }
    const said = end.message === undefined ? '' : ` (${end.message})`
    if (verdict.type === 'close') {
      const { status, ok, message } = verdict
      log[ok ? 'info' : 'error'](about, `${slot.id}: ${status}${said}`)
      this.#notBefore.delete(slot.id)
      const told = message === undefined ? end : { ...end, message }
      await journal.append([{ type: 'ended', end: this.#endOf(slot, status, told, ok) }])
      return
    }
    this.#notBefore.set(slot.id, this.#options.clock.steady() + verdict.pauseMs)
    if (verdict.type === 'retry') {
      const of = stream ? '' : ` of ${retries?.attempts}`
      const next = `run ${slot.attempts + 1}${of} in ${verdict.pauseMs / 1000} s`
      log.warn(about, `${slot.id}: ${verdict.status}${said}; ${next}`)
      return
    }
    log.info(about, `${slot.id} waits: ${verdict.why}`)
    await journal.append([{ type: 'returned', slot: slot.id, job: slot.job, why: verdict.why }])
  }

  #endOf(slot: OpenSlot, status: string, end: RunEnd, ok = false): SlotEnd {
    return slotEnd(slot, end, { status, ok, nowMs: this.#options.clock.wall() })
  }
}

/** One run of it at a time. */
function partOf({ job, shard = '' }: OpenSlot): string {
  return `${job} ${shard}`
}

function refused(message: string): AdflowError {
  return new AdflowError('DAEMON_REFUSED', message, { hint: '`adflow daemon status` shows the jobs and their state' })
}
