/**
 * Who leads. Each leader has an epoch, and each epoch a folder that only one process can have made: `mkdir` decides. A leader
 * shows that it lives by a counter in its folder; others look at the counter by their own steady clock, so no two clocks are
 * compared. Where the kernel can tell that the leader's process is gone, nobody waits. Whoever finds a folder newer than its
 * own leads no more, and says so with FENCED before it writes.
 */
import { type FileHandle, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { syncDirectory, writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { StatePlace } from '../core/state-place.ts'
import { machineOf } from '../core/this-machine.ts'
import { type JobLock, lockJob } from '../runtime/lock.ts'
import { folderHolder, type TakenFolder, takeFolder } from '../runtime/shared-folder.ts'
import { newestEpoch } from '../runtime/slot.ts'
import { daemonLease } from '../runtime/state-home.ts'
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
  /** The same where another leads already, or may: nothing is written any more. */
  leave(): Promise<void>
}

export interface CandidateOptions {
  /** Holds a folder for each epoch; stands in the folder of the daemon. */
  readonly epochs: string
  readonly clock: Clock
  readonly command: string
  readonly url: string | null
  /** Where daemons of several machines share their state: a lease there decides, not the folders. */
  readonly shared?: LeasePlace | undefined
}

export interface LeasePlace {
  readonly place: StatePlace
  /** What the files of TLS are relative to. */
  readonly baseDir: string
}

export class Candidate {
  readonly #options: CandidateOptions
  #seen: { readonly epoch: number; readonly beat: string; readonly at: number } | undefined

  constructor(options: CandidateOptions) {
    this.#options = options
  }

  /** Leads, if nobody does; otherwise undefined, and the caller asks again in about a second. */
  async stand(): Promise<Leadership | undefined> {
    const { epochs, clock, shared } = this.#options
    await mkdir(epochs, { recursive: true, mode: 0o700 })
    if (shared !== undefined) return this.#take(shared)
    const epoch = await newestEpoch(epochs)
    if (epoch === 0) return this.#claim(1)
    const folder = epochFolder(epochs, epoch)
    if (await exists(join(folder, 'released'))) return this.#claim(epoch + 1)
    const beat = await readFile(join(folder, 'beat'), 'latin1').catch(() => '')
    if (this.#seen?.epoch !== epoch || this.#seen.beat !== beat) this.#seen = { epoch, beat, at: clock.steady() }
    const silent = clock.steady() - this.#seen.at >= SILENT_MS
    return silent || (await this.#isGone(folder)) ? this.#claim(epoch + 1) : undefined
  }

  /** Of daemons of this machine one asks for the lease: the last holder from here is gone then, however it went. */
  async #take({ place, baseDir }: LeasePlace): Promise<Leadership | undefined> {
    const { epochs, command, url } = this.#options
    const lock = await lockJob(dirname(epochs), { command, run: 'leader' }).catch((error: unknown) => {
      if (error instanceof AdflowError && error.code === 'JOB_LOCKED') return undefined
      throw error
    })
    if (lock === undefined) return undefined
    try {
      const taken = await takeFolder(
        { ...daemonLease(place, baseDir), path: dirname(epochs) },
        { command, more: { url } },
      )
      const leader = taken === undefined ? undefined : await this.#claim(taken.epoch, { taken, lock })
      if (leader !== undefined) return leader
    } catch (error) {
      await lock.close()
      throw error
    }
    await lock.close()
    return undefined
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

  async #claim(epoch: number, shared?: SharedLead): Promise<Leadership | undefined> {
    const { epochs, command, url } = this.#options
    const folder = epochFolder(epochs, epoch)
    try {
      await mkdir(folder, { mode: 0o700, recursive: shared !== undefined })
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
    return new Leader(lease, folder, { lock, beat: await open(join(folder, 'beat'), 'w'), shared })
  }
}

/** What a leader has where the lease of a server decides. */
interface SharedLead {
  readonly taken: TakenFolder
  /** Of this machine's daemons. */
  readonly lock: JobLock
}

interface LeaderParts {
  readonly lock: JobLock
  readonly beat: FileHandle
  readonly shared: SharedLead | undefined
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
  readonly #parts: LeaderParts
  #beats = 0

  constructor(lease: Lease, folder: string, parts: LeaderParts) {
    this.epoch = lease.epoch
    this.pid = lease.pid
    this.host = lease.host
    this.since = lease.since
    this.url = lease.url
    this.machine = lease.machine
    this.folder = folder
    this.#next = epochFolder(dirname(folder), lease.epoch + 1)
    this.#parts = parts
  }

  async check(): Promise<void> {
    if (this.#parts.shared !== undefined) return this.#parts.shared.taken.check()
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
    await this.#parts.beat.write(String(this.#beats).padStart(16, '0'), 0, 'latin1')
  }

  async release(): Promise<void> {
    await writeDurably(join(this.folder, 'released'), '')
    await this.leave()
  }

  async leave(): Promise<void> {
    const { beat, lock, shared } = this.#parts
    await beat.close()
    await lock.close()
    await shared?.taken.close()
    await shared?.lock.close()
  }
}

/** The lease of the newest epoch, whether its leader lives or not. */
export async function currentLease(
  epochs: string,
  shared?: LeasePlace,
): Promise<(Lease & { readonly released: boolean }) | undefined> {
  if (shared !== undefined) return sharedLease(shared)
  const epoch = await newestEpoch(epochs)
  const folder = epochFolder(epochs, epoch)
  const lease = epoch === 0 ? undefined : await readLease(folder)
  return lease === undefined ? undefined : { ...lease, released: await exists(join(folder, 'released')) }
}

async function sharedLease({
  place,
  baseDir,
}: LeasePlace): Promise<(Lease & { readonly released: boolean }) | undefined> {
  const holder = await folderHolder(daemonLease(place, baseDir))
  if (holder === undefined) return undefined
  const { epoch, pid, host, since, held, more } = holder
  return {
    epoch,
    pid,
    host,
    since,
    url: typeof more['url'] === 'string' ? more['url'] : null,
    machine: null,
    released: !held,
  }
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
