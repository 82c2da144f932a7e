/** Daemons over a folder of small jobs, as processes, under a clock that can be moved; and what the ledgers say of each scheduled time. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from './cli.ts'
import { programFromDebian } from './servers/core/machine.ts'
import { NO_SERVER } from './servers/core/missing.ts'

const BIN = fileURLToPath(new URL('../../bin/run.js', import.meta.url))
const LIBRARY = 'libfaketimeMT.so.1'
const LIBRARY_FOLDERS = ['x86_64-linux-gnu', 'aarch64-linux-gnu', '.'].map((machine) => `/usr/lib/${machine}/faketime`)

/** The library that moves the clock of a process, or why it cannot be had. @throws Error in CI, where it must be had */
export async function faketime(): Promise<{ readonly library: string } | { readonly reason: string }> {
  const find = async () => LIBRARY_FOLDERS.map((folder) => join(folder, LIBRARY)).find((path) => existsSync(path))
  try {
    return { library: await programFromDebian(LIBRARY, ['faketime'], find) }
  } catch (error) {
    if (process.env['CI'] === 'true') throw error
    return { reason: `${NO_SERVER} ${(error as Error).message}` }
  }
}

export interface RunOfSlot {
  readonly slot: string
  readonly status: string
  readonly exit: number
}

export class DaemonSite {
  readonly folder: string
  readonly daemons: RunningDaemon[] = []
  readonly #clock: string

  readonly #temporary = temporaryFolder('daemon')

  readonly #faketime: string | undefined

  /** `faketime`: the library by which setClock() works. */
  constructor({ faketime }: { readonly faketime?: string } = {}) {
    this.#faketime = faketime
    this.folder = this.#temporary.path
    this.#clock = join(this.folder, 'clock')
    this.put('jobs/data/a.ndjson', '{"id":1}\n{"id":2}\n')
  }

  get state(): string {
    return join(this.folder, 'state')
  }

  put(name: string, content: string): string {
    const path = join(this.folder, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(`${path}.new`, content)
    renameSync(`${path}.new`, path)
    return path
  }

  job(name: string, schedule: string, more = ''): string {
    return this.put(
      `jobs/${name}.yaml`,
      `version: 1
name: ${name}
extract:
  input: { type: files, path: "data/*", settle: 0s }
contract:
  columns: { id: { type: bigint, required: true } }
load:
  out: { type: duckdb, path: ${name}.duckdb, table: rows }
${schedule === '' ? '' : `schedule: ${schedule}\n`}${more}`,
    )
  }

  /** Moves the clock of all daemons and of their runs, those to come too. It goes on from there. */
  setClock(time: string): void {
    // One file, put in its place whole: a half-written one would be read as no offset.
    writeFileSync(
      `${this.#clock}.new`,
      `${((Date.parse(time) - Date.now()) / 1000).toFixed(3).replace(/^(?!-)/, '+')}\n`,
    )
    renameSync(`${this.#clock}.new`, this.#clock)
  }

  start(args: readonly string[] = [], env: Readonly<Record<string, string>> = {}): RunningDaemon {
    const moved =
      existsSync(this.#clock) && this.#faketime !== undefined
        ? {
            LD_PRELOAD: this.#faketime,
            FAKETIME_TIMESTAMP_FILE: this.#clock,
            FAKETIME_NO_CACHE: '1',
            FAKETIME_DONT_FAKE_MONOTONIC: '1',
            NO_FAKE_STAT: '1',
            TZ: 'UTC',
          }
        : {}
    const command = [BIN, 'daemon', join(this.folder, 'jobs'), '--listen=127.0.0.1:0', '--log-format=json', ...args]
    const child = spawn(process.execPath, command, {
      env: { ...process.env, ...moved, ADFLOW_STATE_DIR: this.state, NO_COLOR: '1', ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const daemon = new RunningDaemon(child, join(this.state, '_daemon', 'token'))
    this.daemons.push(daemon)
    return daemon
  }

  /** Runs of a job that have ended, in their order, as its ledger tells. */
  runs(job: string): RunOfSlot[] {
    const slots = new Map<string, string>()
    const found: RunOfSlot[] = []
    for (const event of this.#events(job)) {
      if (event['type'] === 'run_started' && event['slot'] !== undefined)
        slots.set(`${event['run']}`, `${event['slot']}`)
      const slot = slots.get(`${event['run']}`)
      if (event['type'] === 'run_ended' && slot !== undefined)
        found.push({ slot, status: `${event['status']}`, exit: Number(event['exit']) })
    }
    return found
  }

  /** Times of which a run has begun, whether it ended or not: one entry for each run. */
  begun(job: string): string[] {
    return this.#events(job).flatMap((event) => (event['type'] === 'run_started' ? [`${event['slot']}`] : []))
  }

  #events(job: string): Record<string, unknown>[] {
    const ledger = join(this.state, job, 'ledger')
    if (!existsSync(ledger)) return []
    const text = readdirSync(ledger)
      .sort()
      .map((name) => readFileSync(join(ledger, name), 'utf8'))
      .join('')
    return text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.daemons.map((daemon) => daemon.end()))
    for (const pid of this.#processes(''))
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It has ended meanwhile.
      }
    this.#temporary.remove()
  }

  /** Process of the run of a job that goes on. */
  pidOf(job: string): number | undefined {
    return this.#processes(`"slot":"${job}@`)[0]
  }

  /** Processes of the runs whose state directory that is. */
  runsIn(folder: string): number[] {
    return this.#processes(`--state-dir=${folder}\0`)
  }

  #processes(what: string): number[] {
    const commandOf = (pid: number) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
      } catch {
        return '' // it has ended meanwhile
      }
    }
    const pids = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
    return pids.filter((pid) => {
      const command = commandOf(pid)
      return command.includes(`--state-dir=${this.folder}`) && command.includes(what)
    })
  }
}

export class RunningDaemon {
  readonly child: ChildProcess
  readonly lines: Readonly<Record<string, unknown>>[] = []
  /** Exit code, or the signal. */
  readonly ended: Promise<number | NodeJS.Signals | null>
  stderr = ''
  readonly #token: string

  constructor(child: ChildProcess, token: string) {
    this.child = child
    this.#token = token
    this.ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)))
    let rest = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      const parts = (rest + text).split('\n')
      rest = parts.pop() ?? ''
      for (const line of parts) if (line.startsWith('{')) this.lines.push(JSON.parse(line) as Record<string, unknown>)
    })
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  get leads(): boolean {
    return this.says(/^leads \(/) !== undefined
  }

  says(what: RegExp): string | undefined {
    return this.lines.map(({ msg }) => `${msg}`).find((text) => what.test(text))
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  async end(): Promise<void> {
    if (this.alive) {
      this.kill('SIGCONT')
      this.kill('SIGKILL')
    }
    await this.ended
  }

  get<Answer>(path: string): Promise<Answer> {
    return this.#ask(path, {})
  }

  post<Answer>(path: string, body: object): Promise<Answer> {
    return this.#ask(path, { method: 'POST', body: JSON.stringify(body) })
  }

  async #ask<Answer>(path: string, init: RequestInit): Promise<Answer> {
    const url = this.lines.find((line) => 'url' in line)?.['url']
    const token = readFileSync(this.#token, 'utf8').trim()
    const response = await fetch(new URL(path, `${url}`), { ...init, headers: { authorization: `Bearer ${token}` } })
    const text = await response.text()
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`)
    return JSON.parse(text) as Answer
  }
}

/** Resolves to the milliseconds it took. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs = 30_000): Promise<number> {
  const begun = performance.now()
  for (;;) {
    if (await holds()) return performance.now() - begun
    if (performance.now() - begun > withinMs) throw new Error(`not within ${withinMs / 1000} s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
