/**
 * A folder of which a server has the truth: who takes it makes it what the server has, and from then on what is durable in it is durable
 * there. Whoever only looks brings it up to date.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { copyIn, type SharedFiles } from '../clients/postgres/state/copy-in.ts'
import { CopyOut } from '../clients/postgres/state/copy-out.ts'
import { fileEnd, namesWith } from '../clients/postgres/state/extents.ts'
import { Lease, type LeaseHolder, leaseHolder } from '../clients/postgres/state/lease.ts'
import { StateServer } from '../clients/postgres/state/server.ts'
import { alsoDurable } from '../core/durable-copy.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { StatePlace } from '../core/state-place.ts'
import { machineOf } from '../core/this-machine.ts'
import { lockJob, whoHolds } from './lock.ts'

export interface SharedFolder {
  readonly place: StatePlace
  /** What the files of TLS are relative to. */
  readonly baseDir: string
  /** Of the lease, and of the files in the server. */
  readonly name: string
  /** On this machine. */
  readonly path: string
}

export interface TakenFolder {
  readonly epoch: number
  /** Aborted where another machine has taken it, or may have: the reason is the AdflowError. */
  readonly lost: AbortSignal
  /** @throws AdflowError FENCED, STATE_UNREACHABLE */
  check(): void
  close(): Promise<void>
}

/** For who holds the lock of the folder on this machine. undefined: another machine has it, see `folderHolder`. @throws AdflowError STATE_* */
export async function takeFolder(
  { place, baseDir, name, path }: SharedFolder,
  { command, more }: { readonly command: string; readonly more: Readonly<Record<string, unknown>> },
): Promise<TakenFolder | undefined> {
  const server = new StateServer(place, baseDir)
  let lease: Lease | undefined
  try {
    await server.open()
    lease = await Lease.take(server, { name, command, machine: machineOf(path), more }, baseDir)
    if (lease !== undefined) {
      const { lost } = lease
      return following(server, lease, path, await inTurn(path, () => copyIn(server, name, path, lost)))
    }
  } catch (error) {
    await lease?.release()
    await server.close()
    throw error
  }
  await server.close()
  return undefined
}

function following(server: StateServer, lease: Lease, path: string, files: SharedFiles): TakenFolder {
  const copy = new CopyOut(server, lease, path, files)
  const end = alsoDurable(path, copy)
  const close = async () => {
    // What had to be durable is; this takes along what the others only removed. Where it fails they come again, and are removed again.
    if (!lease.lost.aborted) await copy.all().catch(() => undefined)
    end()
    await lease.release()
    await server.close()
  }
  let closed: Promise<void> | undefined
  return {
    epoch: lease.epoch,
    lost: lease.lost,
    check: () => lease.check(),
    close: () => {
      closed ??= close()
      return closed
    },
  }
}

/** Brings the folder up to what the server has. One in which a process of this machine is at work is ahead, and stays. */
export function fetchFolder(folder: SharedFolder): Promise<void> {
  return asking(folder, async (server) => {
    const { name, path } = folder
    if ((await leaseHolder(server, name)) === undefined) return
    await inTurn(path, async () => {
      if ((await whoHolds(path)) === 'nobody') await copyIn(server, name, path)
    })
  })
}

/** Who has it, or had it last; undefined: nobody ever. */
export function folderHolder(folder: Omit<SharedFolder, 'path'>): Promise<LeaseHolder | undefined> {
  return asking(folder, (server) => leaseHolder(server, folder.name))
}

/** The last of the files whose paths begin so, and how many bytes the server has of it. */
export function sharedEnd(
  folder: Omit<SharedFolder, 'path'>,
  prefix: string,
): Promise<{ readonly path: string; readonly bytes: number } | undefined> {
  return asking(folder, (server) => fileEnd(server, folder.name, prefix))
}

/** Names that begin so, of which the server has a file whose path begins so. */
export async function sharedNames(folder: Omit<SharedFolder, 'path'>, prefix: string): Promise<readonly string[]> {
  return (await asking(folder, (server) => namesWith(server, folder.name, prefix))) ?? []
}

async function asking<T>(
  { place, baseDir }: Pick<SharedFolder, 'place' | 'baseDir'>,
  ask: (server: StateServer) => Promise<T>,
): Promise<T | undefined> {
  const server = new StateServer(place, baseDir, 1)
  try {
    return (await server.exists()) ? await ask(server) : undefined
  } finally {
    await server.close()
  }
}

const TURN_MS = 50

/** Two that write a folder anew at the same time would each remove what the other is writing. */
async function inTurn<T>(path: string, work: () => Promise<T>): Promise<T> {
  const folder = join(path, '.fetch')
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw localIoError(error, `make the folder ${folder}`)
  })
  for (;;) {
    const lock = await lockJob(folder, { command: 'fetch the state', run: 'fetch' }).catch((error: unknown) => {
      if (error instanceof AdflowError && error.code === 'JOB_LOCKED') return undefined
      throw error
    })
    if (lock !== undefined) return await work().finally(() => lock.close())
    await delay(TURN_MS)
  }
}
