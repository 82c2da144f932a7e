/** One daemon from start to end: answers, stands by, leads, drains. */
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { appendDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { Registry } from '../core/registry.ts'
import type { StatePlace } from '../core/state-place.ts'
import type { GatewayOptions } from '../gateway/gateway.ts'
import type { LintReport } from '../runtime/lint.ts'
import { fetchFolder } from '../runtime/shared-folder.ts'
import { workingDir } from '../runtime/state-dir.ts'
import { DAEMON, daemonLease, StateHome } from '../runtime/state-home.ts'
import { ChildRunner } from './child-run.ts'
import type { Clock } from './clock.ts'
import { Candidate, currentLease, type Leadership } from './epoch.ts'
import type { DaemonFace } from './face.ts'
import { JobFolder } from './job-folder.ts'
import { Journal, readBook } from './journal.ts'
import type { Notifier } from './notify.ts'
import { Receiver } from './receiver.ts'
import { Scheduler } from './scheduler.ts'
import { startServer } from './server.ts'
import { SharedShares } from './shares.ts'
import type { SlotBook } from './slot-book.ts'

/** From the first signal to the end of the process, at most: less than systemd and Kubernetes give it. */
const DRAIN_MS = 24_000
const ROUND_MS = 500
const LOOK_MS = 1_000

export interface DaemonOptions {
  readonly folder: string
  /** Folder on this machine. */
  readonly stateDir: string
  /** Where daemons of several machines share their state. */
  readonly place?: StatePlace | undefined
  readonly registry: Registry
  readonly log: Logger
  readonly host: string
  readonly port: number
  readonly token: string
  /** Runs that may go on at the same time. */
  readonly parallel: number
  /** bin/run.js of this adflow. */
  readonly program: string
  readonly lint: (files: readonly string[]) => Promise<LintReport>
  /** The first signal. */
  readonly drain: AbortSignal
  readonly clock: Clock
  readonly notifier: Notifier
  readonly version: string
  readonly command: string
  /** undefined: pushes are not taken. */
  readonly push?: Pick<GatewayOptions, 'host' | 'port' | 'memoryBytes' | 'connections'>
  /** Where it answers, once it does. */
  readonly listening?: (url: string) => void
}

/** Folder of the daemon in a state directory. */
export function daemonFolder(stateDir: string, place?: StatePlace): string {
  return join(workingDir(stateDir, place), DAEMON)
}

/** Resolves when it was told to stop and has drained. @throws AdflowError FENCED, DAEMON_ADDRESS, and those of the state directory */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const daemon = new Daemon(options)
  await daemon.run()
}

class Daemon {
  readonly #options: DaemonOptions
  readonly #root: string
  readonly #epochs: string
  readonly #folder: JobFolder
  readonly #home: StateHome
  readonly #startedAt = new Date().toISOString()
  #role: ReturnType<DaemonFace['role']> = 'starting'
  readonly #receiver: Receiver | undefined
  #scheduler: Scheduler | undefined
  #shares: SharedShares | undefined
  #journal: Journal | undefined
  #progress: number
  #told = Number.NEGATIVE_INFINITY

  constructor(options: DaemonOptions) {
    const { folder, registry, log, lint, clock, push, stateDir, place, command } = options
    this.#options = options
    this.#root = daemonFolder(stateDir, place)
    this.#epochs = join(this.#root, 'epochs')
    this.#folder = new JobFolder({ folder, copies: join(this.#root, 'jobs'), registry, log, lint })
    this.#home = new StateHome({ root: stateDir, place, jobs: () => this.#folder.jobs })
    this.#receiver = push === undefined ? undefined : new Receiver({ ...push, stateDir, log, command })
    this.#progress = clock.steady()
  }

  async run(): Promise<void> {
    const { host, port, token, log, notifier, drain, listening } = this.#options
    await mkdir(this.#root, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      throw localIoError(error, `make the folder ${this.#root}`)
    })
    const audit = await this.#openAudit()
    const server = await startServer({ host, port, token, log, face: this.#face(), audit: audit.write })
    try {
      listening?.(server.url)
      const leadership = await this.#standBy(server.url)
      if (leadership !== undefined) await this.#lead(leadership).finally(() => leadership.leave())
    } finally {
      this.#role = 'draining'
      notifier.send('STOPPING=1')
      await server.close()
      await audit.handle.close()
    }
    if (!drain.aborted) throw new AdflowError('UNEXPECTED', 'the daemon ended though nobody had asked it to')
  }

  /** undefined: the daemon was told to stop before it came to lead. */
  async #standBy(url: string): Promise<Leadership | undefined> {
    const { clock, command, drain, log, place } = this.#options
    const candidate = new Candidate({ epochs: this.#epochs, clock, command, url, place })
    while (!drain.aborted) {
      const leadership = await candidate.stand()
      if (leadership !== undefined) return leadership
      if (this.#role === 'starting') {
        const lease = await currentLease(this.#epochs, place)
        log.info(`stands by: process ${lease?.pid} on ${lease?.host} leads (epoch ${lease?.epoch})`)
      }
      this.#role = 'standby'
      this.#sign()
      await sleep(ROUND_MS, drain)
    }
    return undefined
  }

  async #lead(leadership: Leadership): Promise<void> {
    const { clock, log, parallel, program, drain } = this.#options
    log.info({ epoch: leadership.epoch }, `leads (epoch ${leadership.epoch})`)
    // Until the first round nobody else would see it live.
    const pulse = setInterval(() => void leadership.beat().catch(() => undefined), ROUND_MS)
    try {
      this.#journal = await Journal.open(this.#epochs, leadership)
      await this.#readFolder(this.#journal)
      const runner = new ChildRunner({
        program,
        home: this.#home,
        outputs: join(this.#root, 'runs'),
        epochs: this.#epochs,
        epoch: leadership.epoch,
        clock,
      })
      const { book } = this.#journal
      this.#shares = new SharedShares({
        jobs: () => this.#folder.jobs,
        book: () => book,
        log,
        changed: () => this.#scheduler?.wake(),
      })
      this.#scheduler = new Scheduler({
        journal: this.#journal,
        runner,
        ledgerEnd: (part) => this.#home.ledgerEnd(part),
        clock,
        log,
        parallel,
        jobs: () => this.#folder.jobs,
        shares: this.#shares,
      })
      await this.#scheduler.recover()
    } finally {
      clearInterval(pulse)
    }
    await this.#rounds(leadership, this.#scheduler, drain).finally(() => this.#shares?.leave())
    await this.#journal.close()
    await leadership.release()
  }

  async #rounds(leadership: Leadership, scheduler: Scheduler, drain: AbortSignal): Promise<void> {
    const round = async () => {
      await leadership.beat()
      this.#sign()
    }
    const wake = () => scheduler.wake()
    drain.addEventListener('abort', wake)
    const looking = new AbortController()
    const watch = this.#watchFolder(looking.signal)
    try {
      while (!drain.aborted) {
        await round()
        await scheduler.tick()
        this.#role = 'leading'
        await scheduler.pause(ROUND_MS)
      }
      this.#role = 'draining'
      this.#options.notifier.send('STOPPING=1')
      looking.abort()
      this.#shares?.stop()
      const received = watch.then(() => this.#receiver?.close())
      await Promise.all([scheduler.drain(DRAIN_MS, round), received])
    } finally {
      drain.removeEventListener('abort', wake)
      looking.abort()
      await watch
      await this.#receiver?.close()
    }
  }

  /** Jobs that were accepted before go on at once; checking the files takes a while. */
  async #readFolder(journal: Journal): Promise<void> {
    const accepted = [...journal.book.jobs].flatMap(([job, { file, digest, removed }]) =>
      file === null || digest === null || removed ? [] : [{ job, file, digest }],
    )
    const whole = await this.#folder.restore(accepted)
    if (!whole || accepted.length === 0) await this.#folder.look(false)
  }

  async #watchFolder(signal: AbortSignal): Promise<void> {
    for (let settled = false; !signal.aborted; settled = true) {
      try {
        if (await this.#folder.look(settled)) this.#scheduler?.wake()
        await this.#receiver?.follow([...this.#folder.jobs.values()].map(({ job }) => job))
      } catch (error) {
        this.#options.log.error(
          { err: error },
          `the job files cannot be read; all jobs go on as they are: ${String(error)}`,
        )
      }
      await sleep(LOOK_MS, signal)
    }
  }

  /** Something was done: the only place from which the watchdog is fed. */
  #sign(): void {
    const { clock, notifier } = this.#options
    const now = clock.steady()
    this.#progress = now
    if (this.#told === Number.NEGATIVE_INFINITY) notifier.send('READY=1', `STATUS=${this.#role}`)
    else if (notifier.watchdogMs === undefined || now - this.#told < notifier.watchdogMs / 4) return
    else notifier.send('WATCHDOG=1', `STATUS=${this.#role}`)
    this.#told = now
  }

  #face(): DaemonFace {
    const { clock, folder, place, version, parallel } = this.#options
    const leader = () => {
      if (this.#scheduler === undefined) throw new AdflowError('DAEMON_REFUSED', 'this daemon does not lead yet')
      return this.#scheduler
    }
    return {
      role: () => this.#role,
      startedAt: this.#startedAt,
      version,
      folder,
      stateDir: place?.label ?? this.#home.folder,
      stateOf: (part) => this.#home.folders(part),
      holderOf: (job, index) => this.#shares?.holderOf(job, index),
      parallel,
      idleSeconds: () => (clock.steady() - this.#progress) / 1000,
      lease: () => currentLease(this.#epochs, place),
      book: async () => this.#journal?.book ?? (await this.#bookOfOthers()),
      jobs: () => this.#folder.jobs,
      invalid: () => this.#folder.invalid,
      reloads: () => this.#folder.reloads,
      active: () => this.#scheduler?.active ?? [],
      ticks: () => this.#scheduler?.ticks ?? 0,
      nowMs: () => clock.wall(),
      trigger: (job, act) => leader().trigger(job, act),
      setPaused: (job, act, paused) => leader().setPaused(job, act, paused),
    }
  }

  async #bookOfOthers(): Promise<SlotBook> {
    const { place } = this.#options
    if (place !== undefined) await fetchFolder({ ...daemonLease(place), path: this.#root })
    return readBook(this.#epochs)
  }

  /** Who asked for what: one file for each daemon, never shortened. */
  async #openAudit(): Promise<{
    readonly handle: FileHandle
    readonly write: (entry: Readonly<Record<string, unknown>>) => Promise<void>
  }> {
    const path = join(this.#root, 'audit.ndjson')
    try {
      const handle = await open(path, 'a', 0o600)
      return { handle, write: (entry) => appendDurably(handle, `${JSON.stringify(entry)}\n`, path) }
    } catch (error) {
      throw localIoError(error, `open ${path}`)
    }
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}
