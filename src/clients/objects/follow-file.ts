/**
 * Reads and syncs a file while the engine still writes it, so that when the engine is done there is little left to hash and to
 * sync: one after the other would take as long as a good part of the writing. The engine's writers only append; should one ever
 * go back to the beginning (where formats keep what they know last), it is noticed and the file is hashed anew.
 */
import { createHash, type Hash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { localIoError } from '../../core/errors.ts'

/** Short beside the time in which the engine writes SYNC_BYTES. */
const LOOK_EVERY_MS = 50
const PIECE_BYTES = 1 << 20
const SYNC_BYTES = 32 << 20
const HEAD_BYTES = 4096

export interface FileDigest {
  readonly bytes: number
  readonly sha256: string
}

/** Runs `write`, which writes `path`, and gives back what it returns with the digest of the file. */
export async function following<T>(path: string, write: () => Promise<T>): Promise<{ result: T; digest: FileDigest }> {
  const follower = new Follower(path)
  const done = new AbortController()
  const following = follower.follow(done.signal)
  following.catch(() => undefined) // awaited below, unless `write` fails first
  let result: T
  try {
    result = await write()
  } catch (error) {
    done.abort()
    await following.catch(() => undefined) // the first error tells more
    await follower.close()
    throw error
  }
  done.abort()
  try {
    await following
    return { result, digest: await follower.finish() }
  } catch (error) {
    throw localIoError(error, `read back ${path}`)
  } finally {
    await follower.close()
  }
}

class Follower {
  readonly #path: string
  readonly #buffer = Buffer.allocUnsafeSlow(PIECE_BYTES)
  #handle: FileHandle | undefined
  #sha256: Hash = createHash('sha256')
  #at = 0
  #synced = 0
  #head: Buffer | undefined

  constructor(path: string) {
    this.#path = path
  }

  /** Until `signal` is aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined) // aborted: the writer is done
      if (await this.#opened()) await this.#read(signal)
    }
  }

  async finish(): Promise<FileDigest> {
    if (!(await this.#opened())) throw new Error('the file is not there')
    if (this.#head !== undefined && !this.#head.equals(await this.#firstBytes(this.#head.length))) {
      this.#sha256 = createHash('sha256')
      this.#at = 0
    }
    await this.#read()
    return { bytes: this.#at, sha256: this.#sha256.digest('hex') }
  }

  async close(): Promise<void> {
    await this.#handle?.close()
  }

  async #opened(): Promise<boolean> {
    try {
      this.#handle ??= await open(this.#path, 'r')
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw error
    }
  }

  /** What was appended since the last time. */
  async #read(signal?: AbortSignal): Promise<void> {
    const handle = this.#handle as FileHandle
    while (signal?.aborted !== true) {
      const { bytesRead } = await handle.read(this.#buffer, 0, PIECE_BYTES, this.#at)
      if (bytesRead === 0) return
      this.#head ??= Buffer.from(this.#buffer.subarray(0, Math.min(HEAD_BYTES, bytesRead)))
      this.#sha256.update(this.#buffer.subarray(0, bytesRead))
      this.#at += bytesRead
      if (signal === undefined || this.#at - this.#synced < SYNC_BYTES) continue
      this.#synced = this.#at
      await handle.datasync()
    }
  }

  async #firstBytes(length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length)
    await (this.#handle as FileHandle).read(bytes, 0, length, 0)
    return bytes
  }
}
