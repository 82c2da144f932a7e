/** Files of an SFTP server, by the requests of the protocol itself: offsets, syncs and renames are ours to choose. */
import { createHash, type Hash } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { FileDigest } from '../objects/follow-file.ts'
import { isEnd, isMissing } from './errors.ts'
import type { SftpSession } from './session.ts'

const PIECE_BYTES = 1 << 17
/** Requests of one file that are under way at the same time. */
const PIECES_AT_ONCE = 16

export type OpenMode = 'r' | 'r+' | 'wx'

export interface RemoteEntry {
  readonly name: string
  /** Seconds since the epoch, by the clock of the server. */
  readonly mtime: number
}

export class SftpFiles {
  readonly #session: SftpSession

  constructor(session: SftpSession) {
    this.#session = session
  }

  /** undefined: nothing is there. */
  sizeOf(path: string): Promise<number | undefined> {
    return orMissing(
      this.#session.ask<{ readonly size: number }>((sftp, answer) => sftp.stat(path, answer)).then(({ size }) => size),
    )
  }

  realPathOf(path: string): Promise<string | undefined> {
    return orMissing(this.#session.ask<string>((sftp, answer) => sftp.realpath(path, answer)))
  }

  /** Empty where there is no such folder. */
  async list(path: string): Promise<readonly RemoteEntry[]> {
    const entries = await orMissing(
      this.#session.ask<readonly { readonly filename: string; readonly attrs: { readonly mtime: number } }[]>(
        (sftp, answer) => sftp.readdir(path, answer),
      ),
    )
    return (entries ?? []).map(({ filename, attrs }) => ({ name: filename, mtime: attrs.mtime }))
  }

  /** false: something is there. */
  async makeFolder(path: string): Promise<boolean> {
    try {
      await this.#session.ask<void>((sftp, answer) => sftp.mkdir(path, (error) => answer(error)))
      return true
    } catch (error) {
      if ((await this.sizeOf(path)) !== undefined) return false
      throw error
    }
  }

  async remove(path: string): Promise<void> {
    await orMissing(this.#session.ask<void>((sftp, answer) => sftp.unlink(path, (error) => answer(error))))
  }

  /** Fails where the new name is taken. */
  rename(path: string, to: string): Promise<void> {
    return this.#session.ask<void>((sftp, answer) => sftp.rename(path, to, (error) => answer(error)))
  }

  /** Takes the place of what has the new name, in one step. */
  replace(path: string, by: string): Promise<void> {
    return this.#session.ask<void>((sftp, answer) => sftp.ext_openssh_rename(by, path, (error) => answer(error)))
  }

  /** As the file system of a path has it; undefined where the server does not tell. */
  async spaceOf(
    path: string,
  ): Promise<{ readonly freeBytes: number; readonly totalBytes: number; readonly readOnly: boolean } | undefined> {
    const told = await this.#session
      .ask<Readonly<Record<string, number | bigint>>>((sftp, answer) => sftp.ext_openssh_statvfs(path, answer))
      .catch(() => undefined) // an extension
    if (told === undefined) return undefined
    const number = (name: string) => Number(told[name])
    const block = number('f_frsize')
    return {
      freeBytes: number('f_bavail') * block,
      totalBytes: number('f_blocks') * block,
      readOnly: (number('f_flag') & 1) === 1,
    }
  }

  async readText(path: string): Promise<string | undefined> {
    const pieces: Uint8Array[] = []
    const stream = await this.stream(path)
    if (stream === undefined) return undefined
    for await (const piece of stream) pieces.push(piece)
    return Buffer.concat(pieces).toString('utf8')
  }

  /** Bytes from the beginning, `length` at most; undefined where nothing is there. */
  async stream(path: string, length = Number.POSITIVE_INFINITY): Promise<AsyncIterable<Uint8Array> | undefined> {
    const handle = await orMissing(this.#handle(path, 'r'))
    return handle === undefined ? undefined : this.#pieces(handle, length)
  }

  /** Of the first `length` bytes. */
  async digestOf(path: string, length?: number): Promise<FileDigest | undefined> {
    const stream = await this.stream(path, length)
    return stream === undefined ? undefined : digestOf(stream)
  }

  /** Writes the bytes of a local file from an offset on, and syncs them where the server can. */
  async upload(
    file: string,
    path: string,
    mode: OpenMode,
    { from, signal }: { readonly from: number; readonly signal: AbortSignal },
  ): Promise<void> {
    const local = await open(file, 'r')
    try {
      const handle = await this.#handle(path, mode)
      try {
        const under: Promise<void>[] = []
        for (let at = from; ; ) {
          signal.throwIfAborted()
          const piece = Buffer.allocUnsafe(PIECE_BYTES)
          const { bytesRead } = await local.read(piece, 0, PIECE_BYTES, at)
          if (bytesRead === 0) break
          const written = this.#write(handle, piece.subarray(0, bytesRead), at)
          written.catch(() => undefined) // awaited below, or lost behind the first that fails
          under.push(written)
          if (under.length >= PIECES_AT_ONCE) await under.shift()
          at += bytesRead
        }
        await Promise.all(under)
        await this.#sync(handle)
      } finally {
        await this.#close(handle)
      }
    } finally {
      await local.close()
    }
  }

  async writeText(path: string, text: string): Promise<void> {
    const handle = await this.#handle(path, 'wx')
    try {
      await this.#write(handle, Buffer.from(text), 0)
      await this.#sync(handle)
    } finally {
      await this.#close(handle)
    }
  }

  #handle(path: string, mode: OpenMode): Promise<Buffer> {
    return this.#session.ask<Buffer>((sftp, answer) => sftp.open(path, mode, answer))
  }

  #write(handle: Buffer, piece: Buffer, at: number): Promise<void> {
    return this.#session.ask<void>((sftp, answer) =>
      sftp.write(handle, piece, 0, piece.length, at, (error) => answer(error)),
    )
  }

  /** An extension: a server without it keeps the file as its system does. */
  async #sync(handle: Buffer): Promise<void> {
    await this.#session
      .ask<void>((sftp, answer) => sftp.ext_openssh_fsync(handle, (error) => answer(error)))
      .catch((error: unknown) => {
        if (!/support/i.test((error as Error).message)) throw error
      })
  }

  /** A handle that is lost with its connection is closed by the server. */
  async #close(handle: Buffer): Promise<void> {
    await this.#session.ask<void>((sftp, answer) => sftp.close(handle, (error) => answer(error))).catch(() => undefined)
  }

  async *#pieces(handle: Buffer, length: number): AsyncIterable<Uint8Array> {
    try {
      for (let at = 0; at < length; ) {
        const wanted = Math.min(PIECE_BYTES, length - at)
        const piece = Buffer.allocUnsafe(wanted)
        const read = await this.#read(handle, piece, at)
        if (read === 0) return
        yield piece.subarray(0, read)
        at += read
      }
    } finally {
      await this.#close(handle)
    }
  }

  /** Bytes read; 0: the file ends here. */
  async #read(handle: Buffer, piece: Buffer, at: number): Promise<number> {
    return this.#session
      .ask<number>((sftp, answer) =>
        sftp.read(handle, piece, 0, piece.length, at, (error, read) => answer(error, read)),
      )
      .catch((error: unknown) => {
        if (isEnd(error)) return 0
        throw error
      })
  }
}

/** Of bytes on this machine, the first `length`. */
export async function localDigestOf(file: string, length: number): Promise<FileDigest> {
  const local = await open(file, 'r')
  try {
    return await digestOf(local.createReadStream({ end: length - 1, autoClose: false }))
  } finally {
    await local.close()
  }
}

async function digestOf(stream: AsyncIterable<Uint8Array>): Promise<FileDigest> {
  const sha256: Hash = createHash('sha256')
  let bytes = 0
  for await (const piece of stream) {
    sha256.update(piece)
    bytes += piece.byteLength
  }
  return { bytes, sha256: sha256.digest('hex') }
}

async function orMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}
