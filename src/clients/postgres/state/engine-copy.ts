/**
 * The engine's state file and its write-ahead log, while the engine works with them. It never overwrites what its last checkpoint or
 * its log speaks of, and a checkpoint becomes valid by its header alone. So what was read is as a kill would have left it, if the log is read
 * before the file, and header and log are the same afterwards; else it is read again.
 */
import { type FileHandle, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { PoolClient } from 'pg'
import { AdflowError, localIoError } from '../../../core/errors.ts'
import type { SharedFiles } from './copy-in.ts'
import { digestOf, EXTENT_BYTES, type Extents } from './extents.ts'
import { engineFiles, isEngineFile } from './shared-files.ts'

/** One main header and two of checkpoints, of 4 KiB each. */
const HEADER_BYTES = 12 * 1024
const ATTEMPTS = 50
/** A file may be written again within one tick of the clock by which its time is kept. */
const TICK_MS = 100

export interface EngineChange {
  send(client: PoolClient, epoch: number): Promise<void>
  /** Call when the transaction is committed. */
  done(): void
}

/** Digest of each extent, by number. */
type Digests = readonly string[]

export class EngineCopy {
  readonly #root: string
  readonly #extents: Extents
  #sent: ReadonlyMap<string, Digests>
  /** How the files looked when they were read last; undefined: they must be read. */
  #seen: string | undefined

  constructor(root: string, extents: Extents, files: SharedFiles) {
    this.#root = root
    this.#extents = extents
    const ours = [...files].filter(([path]) => isEngineFile(path))
    this.#sent = new Map(ours.map(([path, parts]) => [path, parts.map(({ digest }) => digest)]))
  }

  /** undefined: nothing has changed since. */
  async look(): Promise<EngineChange | undefined> {
    const names = await engineFiles(this.#root)
    if (names.length === 0 && this.#sent.size === 0) return undefined
    const looks = await this.#looks(names)
    if (looks.text === this.#seen) return undefined
    const seen = looks.newestMs + TICK_MS < Date.now() ? looks.text : undefined
    let after: ReadonlyMap<string, Digests> | undefined
    return {
      send: async (client, epoch) => {
        after = await this.#send(client, epoch)
      },
      done: () => {
        if (after === undefined) return
        this.#sent = after
        this.#seen = seen
      },
    }
  }

  async #send(client: PoolClient, epoch: number): Promise<ReadonlyMap<string, Digests>> {
    let known = this.#sent
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      // The log first: what it speaks of is in the file by then.
      const names = [...(await engineFiles(this.#root))].sort().reverse()
      const before = await this.#mark(names)
      const sent = new Map<string, Digests>()
      for (const name of names) sent.set(name, await this.#sendFile(client, epoch, name, known.get(name) ?? []))
      for (const gone of known.keys()) if (!sent.has(gone)) await this.#extents.drop(client, gone)
      known = sent
      if (before === (await this.#mark(await engineFiles(this.#root)))) return sent
    }
    throw new AdflowError(
      'LOCAL_IO',
      `cannot read ${this.#root}/state.duckdb: the engine has written it anew each of ${ATTEMPTS} times`,
    )
  }

  async #sendFile(client: PoolClient, epoch: number, name: string, known: Digests): Promise<Digests> {
    const handle = await openIfThere(join(this.#root, name))
    if (handle === undefined) return known // it has gone meanwhile: the mark tells
    const digests: string[] = []
    try {
      const buffer = Buffer.allocUnsafe(EXTENT_BYTES)
      for (let full = true; full; ) {
        const at = digests.length * EXTENT_BYTES
        const { bytesRead } = await handle.read(buffer, 0, EXTENT_BYTES, at)
        full = bytesRead === EXTENT_BYTES
        if (bytesRead === 0 && at > 0) break
        const bytes = buffer.subarray(0, bytesRead)
        const digest = digestOf(bytes)
        // The query is over before the buffer is used again.
        if (digest !== known[digests.length]) await this.#extents.put(client, epoch, name, at, bytes)
        digests.push(digest)
      }
    } finally {
      await handle.close()
    }
    if (digests.length < known.length) await this.#extents.drop(client, name, digests.length * EXTENT_BYTES)
    return digests
  }

  /** What is the same as long as no checkpoint has been made. */
  async #mark(names: readonly string[]): Promise<string> {
    const parts = names.map(async (name) => {
      const handle = await openIfThere(join(this.#root, name))
      if (handle === undefined) return `${name} gone`
      try {
        const head = Buffer.alloc(HEADER_BYTES)
        if (name === 'state.duckdb') await handle.read(head, 0, HEADER_BYTES, 0)
        return `${name} ${(await handle.stat()).ino} ${digestOf(head)}`
      } finally {
        await handle.close()
      }
    })
    return (await Promise.all(parts)).sort().join('\n')
  }

  async #looks(names: readonly string[]): Promise<{ readonly text: string; readonly newestMs: number }> {
    let newestMs = 0
    const parts = names.map(async (name) => {
      const found = await stat(join(this.#root, name), { bigint: true }).catch(() => undefined)
      newestMs = Math.max(newestMs, Number((found?.mtimeNs ?? 0n) / 1_000_000n))
      return `${name} ${found?.ino} ${found?.size} ${found?.mtimeNs} ${found?.ctimeNs}`
    })
    return { text: (await Promise.all(parts)).join('\n'), newestMs }
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
