/**
 * Every durable change of a state directory, into the server, before it counts as durable. One transaction takes all that has
 * changed while the one before was on its way; it is committed by the holder of the lease alone.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { PoolClient } from 'pg'
import type { DurableChange, DurableCopy } from '../../../core/durable-copy.ts'
import { AdflowError, localIoError } from '../../../core/errors.ts'
import { GroupCommit } from '../../../core/group-commit.ts'
import type { SharedFiles } from './copy-in.ts'
import { EngineCopy } from './engine-copy.ts'
import { EXTENT_BYTES, Extents } from './extents.ts'
import type { Lease } from './lease.ts'
import type { StateServer } from './server.ts'
import { allFiles, filesIn, isEngineFile, sharedPath } from './shared-files.ts'

/** What the server has of a file. */
interface Sent {
  readonly size: number
  /** From here on its extents are small, and so many. */
  readonly tail: { readonly from: number; readonly extents: number }
}

/** So many appends are then written as one: reading the state elsewhere costs by extents. */
const MOST_SMALL = 256
const PAUSE_MS = 100

interface Change {
  readonly path: string
  readonly how: DurableChange | 'all'
}

export class CopyOut implements DurableCopy {
  readonly #root: string
  readonly #lease: Lease
  readonly #extents: Extents
  readonly #engine: EngineCopy
  readonly #sent: Map<string, Sent>
  readonly #commits: GroupCommit<Change>

  /** `files`: what the server has, and the folder too. */
  constructor(server: StateServer, lease: Lease, root: string, files: SharedFiles) {
    this.#root = root
    this.#lease = lease
    this.#extents = new Extents(server, lease.name)
    this.#engine = new EngineCopy(root, this.#extents, files)
    this.#sent = new Map(
      [...files].filter(([path]) => !isEngineFile(path)).map(([path, extents]) => [path, sentOf(extents)]),
    )
    this.#commits = new GroupCommit((changes) => this.#send(changes))
  }

  changed(path: string, how: DurableChange): Promise<void> {
    return this.#commits.add({ path, how })
  }

  settle(): Promise<void> {
    return this.#commits.add({ path: this.#root, how: 'listed' })
  }

  check(): void {
    this.#lease.check()
  }

  /** Everything, whoever wrote it. */
  all(): Promise<void> {
    return this.#commits.add({ path: this.#root, how: 'all' })
  }

  async #send(changes: readonly Change[]): Promise<void> {
    const { lost } = this.#lease
    for (;;) {
      this.#lease.check()
      try {
        return await this.#sendOnce(changes)
      } catch (error) {
        if (lost.aborted) throw lost.reason
        // The server may be back before the lease has run out.
        if (!(error instanceof AdflowError) || error.code !== 'STATE_UNREACHABLE') throw error
        await delay(PAUSE_MS, undefined, { signal: lost }).catch(() => undefined)
      }
    }
  }

  async #sendOnce(changes: readonly Change[]): Promise<void> {
    const files = await this.#changedFiles(changes)
    const engine = await this.#engine.look()
    if (files.size === 0 && engine === undefined) return
    const sent = new Map<string, Sent | undefined>()
    await this.#lease.transaction(`save the state of ${this.#lease.name}`, async (client) => {
      for (const [shared, how] of files) sent.set(shared, await this.#sendFile(client, shared, how))
      await engine?.send(client, this.#lease.epoch)
    })
    engine?.done()
    for (const [path, after] of sent)
      if (after === undefined) this.#sent.delete(path)
      else this.#sent.set(path, after)
  }

  /** Paths in the table, and whether only their end is new. */
  async #changedFiles(changes: readonly Change[]): Promise<ReadonlyMap<string, 'replaced' | 'appended'>> {
    const files = new Map<string, 'replaced' | 'appended'>()
    const add = (path: string, how: 'replaced' | 'appended') => {
      const shared = sharedPath(this.#root, path)
      if (shared === undefined || isEngineFile(shared)) return
      if (how === 'replaced' || !files.has(shared)) files.set(shared, how)
    }
    const listed = async (here: readonly string[], ours: (shared: string) => boolean) => {
      const there = new Set([...this.#sent.keys()].filter(ours))
      for (const path of here) {
        const shared = sharedPath(this.#root, path)
        if (shared !== undefined && !there.delete(shared)) add(path, 'replaced')
      }
      for (const gone of there) add(join(this.#root, gone), 'replaced')
    }
    for (const { path, how } of changes) {
      if (how === 'all') await listed(await allFiles(this.#root), () => true)
      else if (how === 'listed')
        await listed(await filesIn(this.#root, path), (shared) => dirname(join(this.#root, shared)) === path)
      else add(path, how)
    }
    return files
  }

  /** What the server has of it then; undefined: nothing, for it is not there. */
  async #sendFile(client: PoolClient, path: string, how: 'replaced' | 'appended'): Promise<Sent | undefined> {
    const handle = await openIfThere(join(this.#root, path))
    if (handle === undefined) {
      await this.#extents.drop(client, path)
      return undefined
    }
    try {
      const before = this.#sent.get(path)
      const { size } = await handle.stat()
      if (how === 'replaced' || before === undefined || size < before.size)
        return await this.#rewrite(client, path, handle, 0)
      if (before.tail.extents >= MOST_SMALL) return await this.#rewrite(client, path, handle, before.tail.from)
      const extents = before.tail.extents + (await this.#put(client, path, handle, before.size, size)).extents
      return { size, tail: { from: before.tail.from, extents } }
    } finally {
      await handle.close()
    }
  }

  async #rewrite(client: PoolClient, path: string, handle: FileHandle, from: number): Promise<Sent> {
    await this.#extents.drop(client, path, from)
    const { end, last } = await this.#put(client, path, handle, from, Number.POSITIVE_INFINITY)
    return { size: end, tail: { from: last, extents: 1 } }
  }

  /** [from, to) in extents; an empty file has one of no bytes. */
  async #put(client: PoolClient, path: string, handle: FileHandle, from: number, to: number) {
    let [at, last, extents] = [from, from, 0]
    for (;;) {
      // Its own for each: the client has not written the one before yet, maybe.
      const buffer = Buffer.allocUnsafe(Math.min(EXTENT_BYTES, to - at))
      const bytes = buffer.subarray(0, await fill(handle, buffer, at))
      if (bytes.length === 0 && at > 0) break
      await this.#extents.put(client, this.#lease.epoch, path, at, bytes)
      extents += 1
      last = at
      at += bytes.length
      if (bytes.length < EXTENT_BYTES) break
    }
    return { end: at, last, extents }
  }
}

async function fill(handle: FileHandle, buffer: Buffer, at: number): Promise<number> {
  let length = 0
  for (let read = -1; read !== 0 && length < buffer.length; length += read)
    read = (await handle.read(buffer, length, buffer.length - length, at + length)).bytesRead
  return length
}

function sentOf(extents: readonly { readonly at: number; readonly bytes: number }[]): Sent {
  const last = extents.at(-1)
  const small = extents.findIndex(({ bytes }) => bytes < EXTENT_BYTES)
  const from = extents[small]?.at ?? last?.at ?? 0
  return {
    size: last === undefined ? 0 : last.at + last.bytes,
    tail: { from, extents: small === -1 ? 1 : extents.length - small },
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${path}`)
  }
}
