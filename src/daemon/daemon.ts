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
import { workingDir } from '../runtime/state-dir.ts'
import { DAEMON, StateHome } from '../runtime/state-home.ts'
import { Books } from './books.ts'
import type { Clock } from './clock.ts'
import { DomainSplit } from './domains.ts'
import { currentLease } from './epoch.ts'
import type { DaemonFace } from './face.ts'
import { JobFolder } from './job-folder.ts'
import { Leading, type LeadingSteps } from './leading.ts'
import type { Notifier } from './notify.ts'
import { sleep, within } from './pause.ts'
import { Receiver } from './receiver.ts'
import { startServer } from './server.ts'
import { ANSWER_MS, SharedTimes } from './shared-times.ts'
import { SharedShares } from './shares.ts'

const LOOK_MS = 1_000
/** Longest that a part of the daemon may go without a round before systemd hears nothing more. */
const STUCK_MS = 30_000

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

/** Folder of the daemon in a state directory; where it is shared, of what daemons share. */
export function daemonFolder(stateDir: string, place?: StatePlace): string {
  return join(workingDir(stateDir, place), DAEMON)
}

/** Folder of what the daemon of this machine does for itself. */
export function machineFolder(stateDir: string, place?: StatePlace): string {
  return place === undefined ? daemonFolder(stateDir) : join(workingDir(stateDir, place), '_machine')
}

/** Resolves when it was told to stop and has drained. @throws AdflowError FENCED, DAEMON_ADDRESS, and those of the state directory */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const daemon = new Daemon(options)
  await daemon.run()
}

class Daemon {
  readonly #options: DaemonOptions
  readonly #root: string
  readonly #folder: JobFolder
  readonly #domains: DomainSplit
  readonly #home: StateHome
  readonly #local: Leading
  readonly #times: SharedTimes
  readonly #shares: SharedShares
  readonly #books: Books
  readonly #receiver: Receiver | undefined
  readonly #startedAt = new Date().toISOString()
  readonly #gone = new AbortController()
  #failure: unknown
  #told = Number.NEGATIVE_INFINITY

  constructor(options: DaemonOptions) {
    const { folder, registry, log, lint, push, stateDir, place, command, clock, parallel, program } = options
    this.#options = options
    this.#root = machineFolder(stateDir, place)
    this.#domains = new DomainSplit(place)
    this.#folder = new JobFolder({
      ...{ folder, copies: join(this.#root, 'jobs'), registry, log, lint },
      decidedIn: (job) => this.#domains.timesOf(job)?.place.key ?? '',
    })
    this.#home = new StateHome({ root: stateDir, place, jobs: () => this.#folder.jobs })
    const common = { program, home: this.#home, clock, command, log, parallel }
    const domains = () => this.#domains.of(this.#folder.jobs)
    this.#shares = new SharedShares({
      jobs: () => this.#folder.jobs,
      placeOf: this.#domains.placeOf,
      book: () => this.#local.book,
      log,
      changed: () => this.#local.scheduler?.wake(),
    })
    this.#local = new Leading({
      ...{ ...common, root: this.#root, shared: undefined, shares: this.#shares },
      beside: () => this.#times.all.reduce((sum, { leading }) => sum + (leading.scheduler?.counted ?? 0), 0),
      jobs: () => domains().local,
    })
    this.#times = new SharedTimes({
      ...{ ...common, domains, own: place?.key },
      beside: () => this.#local.scheduler?.counted ?? 0,
      folderOf: (at) => daemonFolder(stateDir, at.place),
      failed: (error) => this.#fail(error),
    })
    this.#books = new Books({
      local: this.#local,
      times: this.#times,
      shares: this.#shares,
      domains: this.#domains,
      jobs: () => this.#folder.jobs,
    })
    this.#receiver = push === undefined ? undefined : new Receiver({ ...push, stateDir, log, command })
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
      await this.#lead({ url: server.url, drain, gone: this.#gone.signal, step: () => this.#sign() })
    } finally {
      notifier.send('STOPPING=1')
      await server.close()
      await audit.handle.close()
    }
    if (!drain.aborted) throw new AdflowError('UNEXPECTED', 'the daemon ended though nobody had asked it to')
  }

  /** The daemon of this machine does everything: another one in its folder only stands by. */
  async #lead(steps: LeadingSteps): Promise<void> {
    const looking = new AbortController()
    let watch: Promise<void> = Promise.resolve()
    try {
      await this.#local.run({
        ...steps,
        prepare: async () => {
          await this.#readFolder()
          this.#shares.start()
          watch = this.#watchFolder(steps, looking.signal)
        },
        draining: async () => {
          this.#options.notifier.send('STOPPING=1')
          looking.abort()
          this.#shares.stop()
          await watch
          await this.#receiver?.close()
        },
        drained: async () => {
          await Promise.all([this.#times.end(), this.#shares.leave()])
        },
      })
    } finally {
      looking.abort()
      // Where the daemon was not told to stop: its runs go on, and others lead at once.
      this.#gone.abort()
      await watch
      await Promise.all([this.#times.end(), this.#shares.leave(), this.#receiver?.close()])
    }
    if (this.#failure !== undefined) throw this.#failure
  }

  #fail(error: unknown): void {
    this.#failure ??= error
    this.#gone.abort()
  }

  /** Jobs that were accepted before go on at once; checking the files takes a while. */
  async #readFolder(): Promise<void> {
    const whole = await this.#folder.restore()
    if (!whole || this.#folder.jobs.size === 0) await this.#folder.look(false)
  }

  async #watchFolder(steps: LeadingSteps, signal: AbortSignal): Promise<void> {
    for (let settled = false; !signal.aborted; settled = true) {
      try {
        if (await this.#folder.look(settled)) this.#wake()
        this.#times.follow(steps)
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

  #wake(): void {
    for (const { scheduler } of this.#leadings) scheduler?.wake()
  }

  get #leadings(): readonly Leading[] {
    return [this.#local, ...this.#times.all.map(({ leading }) => leading)]
  }

  /** Since the one that has been silent for longest has done something. */
  get #idleMs(): number {
    return this.#options.clock.steady() - Math.min(...this.#leadings.map(({ progress }) => progress))
  }

  /** Something was done: the only place from which the watchdog is fed. */
  #sign(): void {
    const { clock, notifier } = this.#options
    const now = clock.steady()
    if (this.#told === Number.NEGATIVE_INFINITY) notifier.send('READY=1', `STATUS=${this.#role}`)
    else if (notifier.watchdogMs === undefined || now - this.#told < notifier.watchdogMs / 4) return
    else if (this.#idleMs > STUCK_MS) return
    else notifier.send('WATCHDOG=1', `STATUS=${this.#role}`)
    this.#told = now
  }

  /** Of a daemon that was started in a shared place what it does there. */
  get #role(): ReturnType<DaemonFace['role']> {
    const { drain, place } = this.#options
    if (drain.aborted) return 'draining'
    const own = place === undefined ? undefined : this.#times.of(place.key)
    return own === undefined || this.#local.role !== 'leading' ? this.#local.role : own.leading.role
  }

  #face(): DaemonFace {
    const { clock, folder, place, version, parallel } = this.#options
    const own = this.#domains.own
    const [local, books] = [this.#local, this.#books]
    return {
      role: () => this.#role,
      startedAt: this.#startedAt,
      version,
      folder,
      stateDir: place?.label ?? this.#home.folder,
      stateOf: (part) => this.#home.folders(part),
      holderOf: (job, index) => this.#shares.holderOf(job, index),
      parallel,
      idleSeconds: () => this.#idleMs / 1000,
      lease: (job) =>
        within(
          ANSWER_MS,
          job === undefined
            ? currentLease(join(daemonFolder(this.#options.stateDir, place), 'epochs'), own)
            : books.leadingOf(job).lease(),
          () => undefined,
        ),
      shared: () =>
        this.#times.all.map(({ at, leading, answers }) => ({ place: at.place.label, role: leading.role, answers })),
      leads: (job) =>
        this.#folder.jobs.has(job) ? books.leadingOf(job).scheduler !== undefined : this.#role === 'leading',
      book: () => books.book(),
      jobs: () => this.#folder.jobs,
      invalid: () => this.#folder.invalid,
      reloads: () => this.#folder.reloads,
      active: () => this.#leadings.flatMap(({ scheduler }) => scheduler?.active ?? []),
      ticks: () => local.scheduler?.ticks ?? 0,
      nowMs: () => clock.wall(),
      trigger: (job, act) => books.schedulerOf(job).trigger(job, act),
      setPaused: (job, act, paused) => books.setPaused(job, act, paused),
    }
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
