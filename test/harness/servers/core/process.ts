/** One process of a server: started, watched until it is ready, signalled, ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { basename } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { findProgram } from './machine.ts'
import { descendants, isAlive, signal } from './pids.ts'

export interface ProcessSpec {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** A user of the machine, for servers that refuse root. */
  readonly user?: string
  /** stdout and stderr go here: a pipe would keep its reader waiting for as long as the server lives. */
  readonly log: string
  /** Asked until it says true. `logged` is what the process wrote since it was started. */
  readonly ready: (logged: () => string) => boolean | Promise<boolean>
  /** Ends the process in order. Default: SIGTERM. */
  readonly stopSignal?: NodeJS.Signals
  /** Ends the process for good, its data with it. Default: SIGKILL. */
  readonly endSignal?: NodeJS.Signals
}

/** Of a machine that builds, tests and starts other servers at the same time. */
const READY_MS = 180_000
const STOP_MS = 30_000
const LOG_LINES = 15

/** A harness that just exits takes its servers along. */
const started = new Set<ServerProcess>()
process.on('exit', () => {
  for (const server of started) server.killNow()
})

export class ServerProcess {
  readonly spec: ProcessSpec
  #child: ChildProcess | undefined

  constructor(spec: ProcessSpec) {
    this.spec = spec
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** @throws Error with the end of the log, when the process ends or does not get ready. */
  async start(): Promise<void> {
    if (this.running) throw new Error(`${basename(this.spec.command)} runs already`)
    const { command, args } = await this.#guarded()
    const log = openSync(this.spec.log, 'a')
    const logStart = fstatSync(log).size
    const logged = () => readFileSync(this.spec.log).subarray(logStart).toString()
    const child = spawn(command, args, {
      env: { ...process.env, ...this.spec.env },
      stdio: ['ignore', log, log],
      // A group of its own: Ctrl-C in a terminal is for the harness, which then ends its servers in order.
      detached: true,
    })
    closeSync(log)
    this.#child = child
    let failed: Error | undefined
    child.once('error', (error) => {
      failed = error
    })
    child.unref()
    started.add(this)
    const deadline = Date.now() + READY_MS
    while (!(await this.spec.ready(logged))) {
      if (failed !== undefined || !this.running || Date.now() > deadline) {
        const why = failed?.message ?? (this.running ? `not ready after ${READY_MS} ms` : 'ended')
        await this.end()
        throw new Error(`${basename(this.spec.command)}: ${why}\n${this.logTail()}`)
      }
      await wait(25)
    }
  }

  /** The process and its children die at once, as when the machine loses power. */
  async kill9(): Promise<void> {
    const pids = this.#signal('SIGKILL')
    if (!(await this.#gone(pids, STOP_MS))) throw new Error(`${basename(this.spec.command)} survives SIGKILL`)
  }

  /** Like `kill9`, for a process that exits and cannot wait. */
  killNow(): void {
    this.#signal('SIGKILL')
  }

  /** Holds the process still; connections stay open and say nothing. */
  stop(): void {
    this.#signal('SIGSTOP')
  }

  cont(): void {
    this.#signal('SIGCONT')
  }

  /** Ends in order and starts again on the same data; after `kill9` it only starts. */
  async restart(): Promise<void> {
    await this.#terminate(this.spec.stopSignal ?? 'SIGTERM')
    await this.start()
  }

  async end(): Promise<void> {
    await this.#terminate(this.spec.endSignal ?? 'SIGKILL')
    started.delete(this)
  }

  logTail(): string {
    return readFileSync(this.spec.log, 'utf8').trimEnd().split('\n').slice(-LOG_LINES).join('\n')
  }

  async #terminate(name: NodeJS.Signals): Promise<void> {
    if (!this.running) return
    this.cont() // a process that is held still takes no other signal
    const pids = this.#tree()
    this.#child?.kill(name)
    await this.#gone([], name === 'SIGKILL' ? 0 : STOP_MS)
    // What did not follow, and what the process left behind.
    for (const pid of pids) signal(pid, 'SIGKILL')
    if (!(await this.#gone(pids, STOP_MS))) throw new Error(`${basename(this.spec.command)} survives SIGKILL`)
  }

  /** Sends to the process and all its descendants, which may have made groups of their own (PostgreSQL's do). */
  #signal(name: NodeJS.Signals): readonly number[] {
    const pids = this.#tree()
    for (const pid of pids) signal(pid, name)
    return pids
  }

  #tree(): readonly number[] {
    const pid = this.#child?.pid
    return pid === undefined || !this.running ? [] : [pid, ...descendants(pid)]
  }

  /** Waits for the process, and for those of `pids`. */
  async #gone(pids: readonly number[], limitMs: number): Promise<boolean> {
    const deadline = Date.now() + limitMs
    while (this.running || pids.some(isAlive)) {
      if (Date.now() > deadline) return false
      await wait(5)
    }
    return true
  }

  /** setpriv changes the user, and has the kernel end the server when the harness dies, be it by SIGKILL. */
  async #guarded(): Promise<{ command: string; args: readonly string[] }> {
    const { command, args, user, endSignal = 'SIGKILL' } = this.spec
    const setpriv = await findProgram('setpriv')
    if (setpriv === undefined) {
      if (user !== undefined) throw new Error('setpriv (util-linux) is needed to start a server as another user')
      return { command, args }
    }
    const identity = user === undefined ? [] : [`--reuid=${user}`, `--regid=${user}`, '--init-groups']
    return { command: setpriv, args: [`--pdeathsig=${endSignal.slice(3)}`, ...identity, '--', command, ...args] }
  }
}

/** True once something takes connections there. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** True once GET answers with success. */
export async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(2000) })).ok
  } catch {
    return false // it does not listen yet
  }
}
