/** One open local file: reading at any place, forward reading of plain bytes up to where the file ended when it was opened. */
import { type FileHandle, open } from 'node:fs/promises'
import { AdflowError } from '../../core/errors.ts'
import type { ByteSource } from '../../records/window.ts'
import { type FileFacts, factsOf } from './discover.ts'
import type { OpenFile } from './place.ts'

export class LocalFile implements OpenFile {
  readonly facts: FileFacts
  readonly #handle: FileHandle
  readonly #path: string

  private constructor(handle: FileHandle, path: string, facts: FileFacts) {
    this.#handle = handle
    this.#path = path
    this.facts = facts
  }

  get local(): string {
    return this.#path
  }

  /** Throws SOURCE_UNREADABLE. */
  static async open(path: string): Promise<LocalFile> {
    let handle: FileHandle | undefined
    try {
      handle = await open(path, 'r')
      const facts = factsOf(await handle.stat({ bigint: true }))
      if (facts === undefined) throw new Error('it is a folder or a device')
      return new LocalFile(handle, path, facts)
    } catch (error) {
      await handle?.close()
      throw unreadable(path, error)
    }
  }

  async readAt(target: Buffer, offset: number, length: number, position: number): Promise<number> {
    try {
      return (await this.#handle.read(target, offset, length, position)).bytesRead
    } catch (error) {
      throw unreadable(this.#path, error)
    }
  }

  /** Plain bytes from `from` on. Bytes that are appended later belong to a later run. */
  forward(from: number): ByteSource {
    let at = from
    return {
      read: async (target, offset, length) => {
        const count = await this.readAt(target, offset, Math.min(length, Math.max(0, this.facts.size - at)), at)
        if (count === 0 && at < this.facts.size) throw this.#shrunk(at)
        at += count
        return count
      },
      close: async () => undefined, // the file outlives its readers; its opener closes it
    }
  }

  #shrunk(at: number): AdflowError {
    return shrunk(this.#path, at, this.facts.size)
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

export function shrunk(path: string, at: number, size: number): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `${path} ended at byte ${at} while it was read; it had ${size} bytes when it was opened`,
    { hint: 'something truncates the file; the next run takes what stands there now for new' },
  )
}

function unreadable(path: string, error: unknown): AdflowError {
  const found = error instanceof Error ? error.message : String(error)
  return new AdflowError('SOURCE_UNREADABLE', `cannot read ${path}: ${found}`, {
    cause: error,
    hint: 'check that the file exists and that adflow may read it',
  })
}
