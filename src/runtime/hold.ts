/**
 * Who changes the state of a job holds it: on this machine by the lock of its folder; where the state is shared by several machines by a
 * lease too.
 */
import type { LeaseHolder } from '../clients/postgres/state/lease.ts'
import { AdflowError } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import type { Job } from '../core/job/job.ts'
import { requireLayout, sharedName } from './layout.ts'
import { type Holder, holderOf, lockJob } from './lock.ts'
import { requireShard } from './shard-checks.ts'
import { fetchFolder, folderHolder, takeFolder } from './shared-folder.ts'
import { openStateDir, partStateOf, type StateDir, stateDirOf } from './state-dir.ts'

export interface HoldRequest {
  readonly job: Pick<Job, 'name' | 'file' | 'state' | 'stream' | 'baseDir' | 'extract'>
  readonly stateDir: string
  readonly command: string
  /** The parts are being divided anew, by who holds that. */
  readonly dividing?: true
}

export interface HeldJob {
  readonly state: StateDir
  readonly run: string
  /** Aborted where another machine has taken the job over, or may have: the reason is the AdflowError. */
  readonly lost: AbortSignal
  close(): Promise<void>
}

/** @throws AdflowError JOB_LOCKED, naming the holder; STATE_*, LOCAL_IO */
export async function holdJob(request: HoldRequest): Promise<HeldJob> {
  const held = await holdPart(request)
  try {
    // Only now: whoever divides the job anew says so first, and takes all parts then.
    if (request.dividing !== true) await requireLayout(request.job, request.stateDir)
    return held
  } catch (error) {
    await held.close()
    throw error
  }
}

async function holdPart({ job, stateDir, command }: HoldRequest): Promise<HeldJob> {
  const { name: jobName, state: place, baseDir } = job
  if (place !== undefined) requireShareable(job)
  requireShard(stateDirOf(stateDir, jobName), job)
  const state = await openStateDir(stateDir, jobName)
  const lock = await lockJob(state.path, { command, run: uuidv7() })
  const { run } = lock
  if (place === undefined) return { state, run, lost: NEVER, close: () => lock.close() }
  try {
    const name = sharedName(jobName, state)
    const taken = await takeFolder({ place, baseDir, name, path: state.path }, { command, more: { run } })
    if (taken === undefined) throw heldElsewhere(name, await folderHolder({ place, baseDir, name }))
    return {
      ...{ state, run, lost: taken.lost },
      close: async () => {
        await taken.close()
        await lock.close()
      },
    }
  } catch (error) {
    await lock.close()
    throw error
  }
}

const NEVER = new AbortController().signal

/** Brings the folder of a job whose state is shared up to date, to look at it; of a job in shards those of all. */
export async function fetchState(
  { name: job, state: place, stream, baseDir }: Pick<Job, 'name' | 'state' | 'stream' | 'baseDir'>,
  stateDir: string,
): Promise<void> {
  if (place === undefined) return
  for (const state of partsIn(stateDir, job, stream.shards))
    await fetchFolder({ place, baseDir, name: sharedName(job, state), path: state.path })
}

function partsIn(stateDir: string, name: string, shards: number): readonly StateDir[] {
  const own = stateDirOf(stateDir, name)
  if (own.shard !== undefined || shards === 1) return [own]
  return Array.from({ length: shards }, (_, index) => partStateOf(stateDir, name, { index, of: shards }))
}

export interface RunHolder extends Holder {
  /** Where it is not this machine. */
  readonly host?: string
}

/** The run that is going on, wherever it is. */
export async function runOf(
  { name: job, state: place, baseDir }: Pick<Job, 'name' | 'state' | 'baseDir'>,
  state: StateDir,
): Promise<RunHolder | undefined> {
  const here = await holderOf(state.path)
  if (here !== undefined || place === undefined) return here
  const there = await folderHolder({ place, baseDir, name: sharedName(job, state) })
  if (there?.held !== true) return undefined
  const { host, pid, command, since, more } = there
  return { host, pid, command, since, run: String(more['run'] ?? '') }
}

/** What a gateway has accepted lies on the disk of its own machine: another one would not know of it. */
function requireShareable({ name, extract }: HoldRequest['job']): void {
  const push = extract.find(({ type }) => type === 'push')
  if (push !== undefined)
    throw new AdflowError('JOB_INVALID', `the state of ${name} cannot be shared: its source ${push.id} is pushed to`, {
      hint: 'what was accepted is in a journal on one machine; keep the state of this job in files',
    })
}

function heldElsewhere(name: string, holder: LeaseHolder | undefined): AdflowError {
  const who =
    holder === undefined
      ? 'another process'
      : `process ${holder.pid} on ${holder.host} since ${holder.since} (\`${holder.command}\`)`
  return new AdflowError('JOB_LOCKED', `the job ${name} is held by ${who}`, {
    hint: `wait for it; if it is gone, its lease runs out by itself${holder === undefined ? '' : ` at ${holder.expires}`}`,
    ...(holder === undefined ? {} : { details: { holder } }),
  })
}
