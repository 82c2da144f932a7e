/**
 * Who leads. Each leader has an epoch, and each epoch a folder that only one process can have made: `mkdir` decides. A leader
 * shows that it lives by a counter in its folder; others look at the counter by their own steady clock, so no two clocks are
 * compared. Where the kernel can tell that the leader's process is gone, nobody waits. Whoever finds a folder newer than its
 * own leads no more, and says so with FENCED before it writes.
 */
import { type FileHandle, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { syncDirectory, writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { machineOf } from '../core/this-machine.ts'
import { type JobLock, lockJob } from '../runtime/lock.ts'
import { newestEpoch } from '../runtime/slot.ts'
import type { Clock } from './clock.ts'

/** A leader whose counter stands still for so long is taken for dead. It must exceed the longest stall of a live one. */
const SILENT_MS = 10_000
/** Folders of former epochs that are kept, to look at. */
const KEPT = 3

export interface Lease {
  readonly epoch: number
  readonly pid: number
  readonly host: string
  /** ISO 8601 UTC. */
  readonly since: string
  /** Where the leader answers. */
  readonly url: string | null
  /** Boot, network namespace and path: where they are ours, its socket can be asked whether the process is there. */
  readonly machine: string | null
}

export interface Leadership extends Lease {
  /** Folder of the epoch. */
  readonly folder: string
  /** @throws AdflowError FENCED where a newer epoch has begun */
  check(): Promise<void>
  /** Shows that the leader lives. */
  beat(): Promise<void>
  /** Lets another lead at once. */
  release(): Promise<void>
}

export interface CandidateOptions {
  /** Holds a folder for each epoch. */
  readonly epochs: string
  readonly clock: Clock
  readonly command: string
  readonly url: string | null
}

export class Candidate {
  readonly #options: CandidateOptions
  #seen: { readonly epoch: number; readonly beat: string; readonly at: number } | undefined

  constructor(options: CandidateOptions) {
    this.#options = options
  }

  /** Leads, if nobody does; otherwise undefined, and the caller asks again in about a second. */
  async stand(): Promise<Leadership | undefined> {
    const { epochs, clock } = this.#options
    await mkdir(epochs, { recursive: true, mode: 0o700 })
    const epoch = await newestEpoch(epochs)
    if (epoch === 0) return this.#claim(1)
    const folder = epochFolder(epochs, epoch)
    if (await exists(join(folder, 'released'))) return this.#claim(epoch + 1)
    const beat = await readFile(join(folder, 'beat'), 'latin1').catch(() => '')
    if (this.#seen?.epoch !== epoch || this.#seen.beat !== beat) this.#seen = { epoch, beat, at: clock.steady() }
    const silent = clock.steady() - this.#seen.at >= SILENT_MS
    return silent || (await this.#isGone(folder)) ? this.#claim(epoch + 1) : undefined
  }

  /** True only where it is certain. */
  async #isGone(folder: string): Promise<boolean> {
    const lease = await readLease(folder)
    if (lease === undefined || lease.machine === null || lease.machine !== machineOf(folder)) return false
    try {
      await (await lockJob(folder, { command: this.#options.command, run: 'standby' })).close()
      return true
    } catch (error) {
      if (error instanceof AdflowError && error.code === 'JOB_LOCKED') return false
      throw error
    }
  }

  async #claim(epoch: number): Promise<Leadership | undefined> {
    const { epochs, command, url } = this.#options
    const folder = epochFolder(epochs, epoch)
    try {
      await mkdir(folder, { mode: 0o700 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined
      throw localIoError(error, `begin the epoch ${folder}`)
    }
    await syncDirectory(epochs)
    const lock = await lockJob(folder, { command, run: `epoch ${epoch}` })
    const lease: Lease = {
      epoch,
      pid: process.pid,
      host: hostname(),
      since: new Date().toISOString(),
      url,
      machine: machineOf(folder),
    }
    await writeDurably(join(folder, 'lease.json'), `${JSON.stringify(lease)}\n`)
    await removeOld(epochs, epoch)
    return new Leader(lease, folder, epochs, lock, await open(join(folder, 'beat'), 'w'))
  }
}

class Leader implements Leadership {
  readonly epoch: number
  readonly pid: number
  readonly host: string
  readonly since: string
  readonly url: string | null
  readonly machine: string | null
  readonly folder: string
  readonly #next: string
  readonly #lock: JobLock
  readonly #beat: FileHandle
  #beats = 0

  constructor(lease: Lease, folder: string, epochs: string, lock: JobLock, beat: FileHandle) {
    this.epoch = lease.epoch
    this.pid = lease.pid
    this.host = lease.host
    this.since = lease.since
    this.url = lease.url
    this.machine = lease.machine
    this.folder = folder
    this.#next = epochFolder(epochs, lease.epoch + 1)
    this.#lock = lock
    this.#beat = beat
  }

  async check(): Promise<void> {
    if (!(await exists(this.#next))) return
    throw new AdflowError(
      'FENCED',
      `another daemon leads since epoch ${this.epoch + 1}: this one was silent too long`,
      {
        hint: 'nothing was done twice; start this daemon again and it stands by',
      },
    )
  }

  async beat(): Promise<void> {
    await this.check()
    this.#beats += 1
    // In place: a full disk must not cost the lease.
    await this.#beat.write(String(this.#beats).padStart(16, '0'), 0, 'latin1')
  }

  async release(): Promise<void> {
    await writeDurably(join(this.folder, 'released'), '')
    await this.#beat.close()
    await this.#lock.close()
  }
}

/** The lease of the newest epoch, whether its leader lives or not. */
export async function currentLease(epochs: string): Promise<(Lease & { readonly released: boolean }) | undefined> {
  const epoch = await newestEpoch(epochs)
  const folder = epochFolder(epochs, epoch)
  const lease = epoch === 0 ? undefined : await readLease(folder)
  return lease === undefined ? undefined : { ...lease, released: await exists(join(folder, 'released')) }
}

export function epochFolder(epochs: string, epoch: number): string {
  return join(epochs, String(epoch).padStart(8, '0'))
}

/** undefined: not written yet, or its writer was killed before. */
async function readLease(folder: string): Promise<Lease | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, 'lease.json'), 'utf8')) as Lease
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read the lease in ${folder}`)
  }
}

async function removeOld(epochs: string, epoch: number): Promise<void> {
  for (const name of await readdir(epochs))
    if (/^\d{8}$/.test(name) && Number(name) < epoch - KEPT)
      await rm(join(epochs, name), { recursive: true, force: true })
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw localIoError(error, `look for ${path}`)
  }
}
