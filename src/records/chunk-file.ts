/** Where the bytes of a chunk go: counted, summed, and written unless the engine can read them where they are. */
import { type FileHandle, open, rm } from 'node:fs/promises'
import { localIoError } from '../core/errors.ts'
import { sumOf } from './sum.ts'

export function digestOf(crc: number): string {
  return `crc32:${crc.toString(16).padStart(8, '0')}`
}

export class ChunkFile {
  bytes = 0
  readonly #path: string | undefined
  #handle: FileHandle | undefined
  #crc = 0
  #writing: Promise<void> = Promise.resolve()

  /** Without a path nothing is written: only size and digest are wanted. */
  constructor(path?: string) {
    this.#path = path
  }

  get digest(): string {
    return digestOf(this.#crc)
  }

  async append(bytes: Buffer, from: number, to: number): Promise<void> {
    if (await this.lend(bytes, from, to)) await this.#writing
  }

  /** As append(), but resolves while the bytes are being written: until the next call they must stay as they are. false: nobody reads them any more. */
  async lend(bytes: Buffer, from: number, to: number): Promise<boolean> {
    if (to <= from) return false
    if (this.#path !== undefined) {
      await this.#writing
      this.#writing = this.#write(this.#path, bytes.subarray(from, to))
      this.#writing.catch(() => undefined) // the next call is told, or finish()
    }
    this.#sum(bytes, from, to)
    return this.#path !== undefined
  }

  /** Counted and summed, and not written: lines that are refused, whose change must be noticed as that of any other. */
  pass(bytes: Buffer, from: number, to: number): void {
    this.#sum(bytes, from, to)
  }

  /** Not synced: a chunk of a replayable source can be cut again. */
  async finish(): Promise<void> {
    if (this.#path === undefined) return
    await this.#writing
    try {
      this.#handle ??= await open(this.#path, 'wx') // a chunk of refused records alone is an empty file
      await this.#handle.close()
    } catch (error) {
      throw localIoError(error, `close the chunk file ${this.#path}`)
    }
  }

  async discard(): Promise<void> {
    await this.#writing.catch(() => undefined) // what it wrote goes away
    if (this.#handle === undefined || this.#path === undefined) return
    await this.#handle.close()
    await rm(this.#path, { force: true })
  }

  async #write(path: string, part: Buffer): Promise<void> {
    try {
      this.#handle ??= await open(path, 'wx')
      for (let written = 0; written < part.length; )
        written += (await this.#handle.write(part, written, part.length - written)).bytesWritten
    } catch (error) {
      throw localIoError(error, `write the chunk file ${path}`)
    }
  }

  #sum(bytes: Buffer, from: number, to: number): void {
    const part = bytes.subarray(from, to)
    this.#crc = sumOf(part, this.#crc)
    this.bytes += part.length
  }
}
