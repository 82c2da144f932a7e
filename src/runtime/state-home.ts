/** Where a daemon finds the states of its jobs: in folders of this machine, or shared with other machines. */
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { parseShard } from '../core/shard.ts'
import type { StatePlace } from '../core/state-place.ts'
import { sharedName } from './layout.ts'
import { holderOf } from './lock.ts'
import { fetchFolder, folderHolder, type SharedFolder, sharedEnd } from './shared-folder.ts'
import { type LedgerPlace, ledgerEnd } from './slot.ts'
import { partStateOf, type StateDir, workingDir } from './state-dir.ts'

/** Name of the daemons' own folder, and of their lease. No job can have it. */
export const DAEMON = '_daemon'

export interface StateHomeOptions {
  /** Folder on this machine. */
  readonly root: string
  /** Where daemons and jobs that say nothing else share their state; undefined: nowhere. */
  readonly place?: StatePlace | undefined
  /** The job files that are known now. */
  readonly jobs?: () => ReadonlyMap<string, { readonly job: Job }>
}

/** A job, or one of its parts (such as `2/8`). */
export interface JobPart {
  readonly job: string
  readonly shard?: string
}

export interface JobHolder {
  readonly command: string
  /** undefined: on another machine. */
  readonly pid: number | undefined
}

export class StateHome {
  readonly root: string
  readonly place: StatePlace | undefined
  readonly #jobs: NonNullable<StateHomeOptions['jobs']>

  constructor({ root, place, jobs = () => new Map() }: StateHomeOptions) {
    this.root = root
    this.place = place
    this.#jobs = jobs
  }

  /** Folder that has those of the daemons and of jobs that say nothing else. */
  get folder(): string {
    return workingDir(this.root, this.place)
  }

  /** The folders of a job on this machine, as they are. */
  folders({ job, shard }: JobPart): StateDir {
    const root = workingDir(this.root, this.#about(job).place)
    return partStateOf(root, job, shard === undefined ? undefined : parseShard(shard))
  }

  /** The same, as new as they are anywhere. */
  async current(part: JobPart): Promise<StateDir> {
    const state = this.folders(part)
    const shared = this.#shared(part)
    if (shared !== undefined) await patiently(shared.place, () => fetchFolder({ ...shared, path: state.path }))
    return state
  }

  /** Where its ledger ends: what comes later stands behind it, on whatever machine it is written. */
  async ledgerEnd(part: JobPart): Promise<LedgerPlace> {
    const shared = this.#shared(part)
    if (shared === undefined) return ledgerEnd(this.folders(part).ledger)
    const end = await patiently(shared.place, () => sharedEnd(shared, 'ledger/'))
    return end === undefined ? { segment: '', byte: 0 } : { segment: basename(end.path), byte: end.bytes }
  }

  /** Who holds the job now. */
  async holderOf(part: JobPart): Promise<JobHolder | undefined> {
    const here = await holderOf(this.folders(part).path).catch(() => undefined) // no folder: it has never run here
    if (here !== undefined) return here
    const shared = this.#shared(part)
    const there = shared === undefined ? undefined : await patiently(shared.place, () => folderHolder(shared))
    return there?.held === true ? { command: there.command, pid: undefined } : undefined
  }

  #shared(part: JobPart): Omit<SharedFolder, 'path'> | undefined {
    const { place, baseDir } = this.#about(part.job)
    return place === undefined ? undefined : { place, name: sharedName(part.job, this.folders(part)), baseDir }
  }

  #about(name: string): { readonly place: StatePlace | undefined; readonly baseDir: string } {
    const job = this.#jobs().get(name)?.job
    return { place: job?.state ?? this.place, baseDir: job?.baseDir ?? process.cwd() }
  }
}

const PAUSE_MS = 200

/** A server that is back before a lease has run out was never away. */
async function patiently<T>({ leaseMs }: StatePlace, ask: () => Promise<T>): Promise<T> {
  const until = performance.now() + leaseMs
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      const passes = error instanceof AdflowError && error.code === 'STATE_UNREACHABLE' && performance.now() < until
      if (!passes) throw error
      await delay(PAUSE_MS)
    }
  }
}

/** The lease by which daemons on several machines know who leads. `baseDir`: what the files of TLS are relative to. */
export function daemonLease(place: StatePlace, baseDir = process.cwd()): Omit<SharedFolder, 'path'> {
  return { place, name: DAEMON, baseDir }
}
