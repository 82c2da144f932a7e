/**
 * Runs of jobs, each in a process of its own: `adflow run`, as a person would start it. A crash or a full memory costs that
 * run alone, a time-out can end it, and a death of the daemon leaves it at work: the next leader finds it by the lock of the job.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { type FileHandle, mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { EXIT } from '../core/errors.ts'
import { lastRunOf, type SlotRun, type SlotTicket } from '../runtime/slot.ts'
import type { JobHolder, StateHome } from '../runtime/state-home.ts'
import type { RunSummary } from '../runtime/summary.ts'
import { childEnvironment } from './apart.ts'
import type { Clock } from './clock.ts'
import type { AcceptedJob } from './job-folder.ts'
import type { OpenSlot, RunResult } from './slot-book.ts'

/** From the request to stop to the kill. */
const STOP_MS = 30_000
/** How often a run that another daemon has started is looked at. */
const LOOK_MS = 500
/** Outputs of runs that are kept for each job. */
const KEPT_OUTPUTS = 40
/** A summary that is longer than this is not read: only one with thousands of gaps is. */
const SUMMARY_BYTES = 16_000_000
const GAPS = 50

export interface RunEnd {
  readonly exit: number | null
  /** By a steady clock. */
  readonly seconds: number
  readonly status: string
  readonly code?: string
  readonly message?: string
  readonly result?: RunResult
}

export interface Run {
  readonly ended: Promise<RunEnd>
  /** First to stop, then, after 30 s, at once. */
  stop(): void
  kill(): void
}

/** What the scheduler needs of runs; tests have one that starts no process. */
export interface Runner {
  start(job: AcceptedJob, slot: OpenSlot): Promise<Run>
  /** A run of the slot that goes on though this daemon has not started it. */
  adopt(slot: OpenSlot): Promise<Run | undefined>
  /** What the ledger says of runs of the slot that have ended. */
  outcome(slot: OpenSlot): Promise<SlotRun | undefined>
}

export interface RunnerOptions {
  /** bin/run.js of this adflow. */
  readonly program: string
  readonly home: StateHome
  /** Folder for what runs print. */
  readonly outputs: string
  /** The leader by which runs are started. */
  readonly by: Pick<SlotTicket, 'epochs' | 'epoch' | 'inServer'>
  readonly clock: Clock
}

export class ChildRunner implements Runner {
  readonly #options: RunnerOptions

  constructor(options: RunnerOptions) {
    this.#options = options
  }

  async start({ job, text }: AcceptedJob, slot: OpenSlot): Promise<Run> {
    const { program, home, outputs, by, clock } = this.#options
    const ticket: SlotTicket = { slot: slot.id, ...by, since: slot.since }
    const folder = join(outputs, slot.job)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await sweep(folder)
    const name = join(folder, `${new Date(slot.at).toISOString().replaceAll(':', '')}.${slot.attempts}`)
    const stdout = await open(`${name}.json`, 'w', 0o600)
    const stderr = await open(`${name}.log`, 'w', 0o600)
    const begun = clock.steady()
    try {
      const child = spawn(
        process.execPath,
        [
          program,
          'run',
          job.file,
          '--json',
          '--log-level=info',
          '--log-format=json',
          `--state-dir=${home.root}`,
          `--text=${text}`,
          ...(slot.shard === undefined ? [] : [`--shard=${slot.shard}`]),
          `--slot=${JSON.stringify(ticket)}`,
        ],
        {
          stdio: ['ignore', stdout.fd, stderr.fd],
          // Not on the command line, which everybody can read: it may have a password.
          env: { ...childEnvironment(), ...(home.place === undefined ? {} : { ADFLOW_STATE_DIR: home.place.text }) },
          // A group of its own: what the terminal sends to the daemon is not for the run.
          detached: true,
        },
      )
      child.unref() // a daemon that is fenced off leaves at once, and its runs to the next
      const ended = endOf(child).then(async (exit) => ({
        ...(await outputOf(`${name}.json`, `${name}.log`, exit)),
        seconds: (clock.steady() - begun) / 1000,
      }))
      return { ended, ...signals((signal) => child.kill(signal), ended) }
    } finally {
      await close(stdout)
      await close(stderr)
    }
  }

  async adopt(slot: OpenSlot): Promise<Run | undefined> {
    const { clock } = this.#options
    const first = await this.#runningFor(slot)
    if (first === undefined) return undefined
    const { pid } = first
    const begun = clock.steady()
    const ended = (async (): Promise<RunEnd> => {
      for (
        let now: JobHolder | undefined = first;
        now !== undefined && now.pid === pid;
        now = await this.#runningFor(slot)
      )
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS).unref())
      const seconds = (clock.steady() - begun) / 1000
      const had = await this.outcome(slot)
      if (had === undefined) return { exit: null, seconds, status: 'failed', message: 'the run was killed' }
      const { run, ...rest } = had
      return { ...rest, seconds }
    })()
    const send = (signal: NodeJS.Signals) => {
      try {
        // On another machine it is left alone: it ends by itself, or its lease does.
        if (pid !== undefined) process.kill(pid, signal)
      } catch {
        // It is gone: the loop above sees it.
      }
    }
    return { ended, ...signals(send, ended) }
  }

  async outcome(slot: OpenSlot): Promise<SlotRun | undefined> {
    return lastRunOf(slot.id, (await this.#options.home.current(slot)).ledger, slot.since)
  }

  /** The process that holds the job for this very slot. */
  async #runningFor(slot: OpenSlot): Promise<JobHolder | undefined> {
    const holder = await this.#options.home.holderOf(slot)
    return holder?.command.includes(JSON.stringify(slot.id)) === true ? holder : undefined
  }
}

function signals(send: (signal: NodeJS.Signals) => void, ended: Promise<unknown>): Pick<Run, 'stop' | 'kill'> {
  let timer: NodeJS.Timeout | undefined
  void ended.finally(() => clearTimeout(timer)).catch(() => undefined)
  return {
    stop: () => {
      send('SIGTERM')
      timer ??= setTimeout(() => send('SIGKILL'), STOP_MS).unref()
    },
    kill: () => send('SIGKILL'),
  }
}

/** A process that cannot be started is a run that failed, for a reason that may pass. */
function endOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once('error', () => resolve(EXIT.localIo))
    child.once('exit', (code) => resolve(code))
  })
}

interface Printed extends Partial<RunSummary> {
  readonly error?: {
    readonly code: RunSummary['error'] extends { code: infer Code } | undefined ? Code : never
    message: string
  }
}

async function outputOf(json: string, log: string, exit: number | null): Promise<Omit<RunEnd, 'seconds'>> {
  const text = await readFile(json, 'utf8').catch(() => '')
  const printed = text.length > SUMMARY_BYTES ? undefined : parse(text)
  const error = printed?.error
  const about = error === undefined ? {} : { code: error.code, message: error.message }
  if (printed?.run === undefined) {
    const said = exit === null ? 'the process of the run was killed' : ((await lastLine(log)) ?? `exit ${exit}`)
    return { exit, status: 'failed', message: said, ...about }
  }
  const summary = printed as RunSummary
  return { exit, status: summary.status, ...about, result: resultOf(summary) }
}

function resultOf(summary: RunSummary): RunResult {
  const { run, status, seconds, bytes, read, passed, quarantined, filtered, deduplicated } = summary
  return {
    run,
    status,
    seconds,
    bytes,
    read,
    passed,
    quarantined,
    filtered,
    deduplicated,
    stores: mapped(summary.stores, ({ loaded, owed }) => ({ loaded, owed })),
    consumers: mapped(summary.consumers, ({ owed }) => ({ owed })),
    gaps: summary.gaps.slice(0, GAPS).map(({ source, lane, code, message }) => ({ source, lane, code, message })),
    warnings: summary.warnings.length,
  }
}

function mapped<T, U>(map: Readonly<Record<string, T>>, change: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value)]))
}

function parse(text: string): Printed | undefined {
  try {
    return JSON.parse(text) as Printed
  } catch {
    return undefined // cut off by a kill, or nothing at all
  }
}

async function lastLine(path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '')
  return text.trimEnd().split('\n').at(-1)?.slice(0, 500) || undefined
}

async function sweep(folder: string): Promise<void> {
  const names = (await readdir(folder)).sort()
  for (const name of names.slice(0, Math.max(0, names.length - KEPT_OUTPUTS)))
    await rm(join(folder, name), { force: true })
}

async function close(handle: FileHandle): Promise<void> {
  await handle.close()
}
