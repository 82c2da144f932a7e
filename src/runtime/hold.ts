/**
 * Who changes the state of a job holds it: on this machine by the lock of its folder; where the state is shared by several machines by a
 * lease too, and from then on what is durable in the folder is durable in the server.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { copyIn, type SharedFiles } from '../clients/postgres/state/copy-in.ts'
import { CopyOut } from '../clients/postgres/state/copy-out.ts'
import { Lease, type LeaseHolder, leaseHolder } from '../clients/postgres/state/lease.ts'
import { StateServer } from '../clients/postgres/state/server.ts'
import { alsoDurable } from '../core/durable-copy.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import type { Job } from '../core/job/job.ts'
import { shardText } from '../core/shard.ts'
import { machineOf } from '../core/this-machine.ts'
import { type JobLock, lockJob, whoHolds } from './lock.ts'
import { requireShard } from './shard-checks.ts'
import { openStateDir, partStateOf, type StateDir, stateDirOf } from './state-dir.ts'

export interface HoldRequest {
  readonly job: Pick<Job, 'name' | 'file' | 'state' | 'stream' | 'baseDir' | 'extract'>
  readonly stateDir: string
  readonly command: string
}

export interface HeldJob {
  readonly state: StateDir
  readonly run: string
  /** Aborted where another machine has taken the job over, or may have: the reason is the AdflowError. */
  readonly lost: AbortSignal
  close(): Promise<void>
}

/** @throws AdflowError JOB_LOCKED, naming the holder; STATE_*, LOCAL_IO */
export async function holdJob({ job, stateDir, command }: HoldRequest): Promise<HeldJob> {
  requireShareable(job)
  requireShard(stateDirOf(stateDir, job.name), job)
  const state = await openStateDir(stateDir, job.name)
  const lock = await lockJob(state.path, { command, run: uuidv7() })
  if (job.state === undefined) return { state, run: lock.run, lost: NEVER, close: () => lock.close() }
  try {
    const shared = await holdShared(job.state, job, state, lock)
    return {
      state,
      run: lock.run,
      lost: shared.lost,
      close: async () => {
        await shared.close()
        await lock.close()
      },
    }
  } catch (error) {
    await lock.close()
    throw error
  }
}

const NEVER = new AbortController().signal

/** Brings a folder up to what the server has, to look at it. One in which a run of this machine is at work is ahead, and stays. */
export async function fetchState(
  { name, state: place, stream, baseDir }: Pick<Job, 'name' | 'state' | 'stream' | 'baseDir'>,
  stateDir: string,
): Promise<void> {
  if (place === undefined) return
  const server = new StateServer(place, baseDir, 1)
  try {
    if (!(await server.exists())) return
    for (const state of partsIn(stateDir, name, stream.shards)) await fetchPart(server, name, state)
  } finally {
    await server.close()
  }
}

/** Of the state directory of a job in shards: all of them. */
function partsIn(stateDir: string, name: string, shards: number): readonly StateDir[] {
  const own = stateDirOf(stateDir, name)
  if (own.shard !== undefined || shards === 1) return [own]
  return Array.from({ length: shards }, (_, index) => partStateOf(stateDir, name, { index, of: shards }))
}

async function fetchPart(server: StateServer, job: string, state: StateDir): Promise<void> {
  const name = sharedName(job, state)
  const { path } = state
  if ((await leaseHolder(server, name)) === undefined) return
  await inTurn(path, async () => {
    if ((await whoHolds(path)) === 'nobody') await copyIn(server, name, path)
  })
}

/** What the job, or its part, is called in the server. No job can have the name of a part. */
function sharedName(job: string, { shard }: Pick<StateDir, 'shard'>): string {
  return shard === undefined ? job : `${job}@${shardText(shard)}`
}

interface Shared {
  readonly lost: AbortSignal
  close(): Promise<void>
}

async function holdShared(
  place: NonNullable<Job['state']>,
  { name: job, baseDir }: HoldRequest['job'],
  state: StateDir,
  { command, run }: JobLock,
): Promise<Shared> {
  const server = new StateServer(place, baseDir)
  const name = sharedName(job, state)
  const { path } = state
  let lease: Lease | undefined
  try {
    await server.open()
    lease = await Lease.take(server, { name, command, machine: machineOf(path), more: { run } }, baseDir)
    if (lease === undefined) throw heldElsewhere(name, await leaseHolder(server, name))
    const { lost } = lease
    let files: SharedFiles = new Map()
    await inTurn(path, async () => {
      files = await copyIn(server, name, path, lost)
    })
    return following(server, lease, path, files)
  } catch (error) {
    await lease?.release()
    await server.close()
    throw error
  }
}

function following(server: StateServer, lease: Lease, path: string, files: SharedFiles): Shared {
  const copy = new CopyOut(server, lease, path, files)
  const end = alsoDurable(path, copy)
  return {
    lost: lease.lost,
    close: async () => {
      // What had to be durable is; this takes along what the others only removed. Where it fails they come again, and are removed again.
      if (!lease.lost.aborted) await copy.all().catch(() => undefined)
      end()
      await lease.release()
      await server.close()
    },
  }
}

/** Two that write a folder anew at the same time would each remove what the other is writing. */
async function inTurn(path: string, work: () => Promise<void>): Promise<void> {
  const folder = join(path, '.fetch')
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw localIoError(error, `make the folder ${folder}`)
  })
  for (;;) {
    try {
      const lock = await lockJob(folder, { command: 'fetch the state', run: 'fetch' })
      return await work().finally(() => lock.close())
    } catch (error) {
      if (!(error instanceof AdflowError) || error.code !== 'JOB_LOCKED') throw error
      await delay(TURN_MS)
    }
  }
}

const TURN_MS = 50

/** What a gateway has accepted lies on the disk of its own machine: another one would not know of it. */
function requireShareable({ name, state, extract }: HoldRequest['job']): void {
  const push = extract.find(({ type }) => type === 'push')
  if (state !== undefined && push !== undefined)
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
