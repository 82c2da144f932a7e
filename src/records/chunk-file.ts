/** Where the bytes of a chunk go: counted, summed, and written unless the engine can read them where they are. */
import { closeSync, openSync, writeSync } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { localIoError } from '../core/errors.ts'
import { sumOf } from './sum.ts'

export function digestOf(crc: number): string {
  return `crc32:${crc.toString(16).padStart(8, '0')}`
}

export class ChunkFile {
  bytes = 0
  readonly #path: string | undefined
  readonly #blocking: boolean
  #handle: FileHandle | undefined
  /** Of a blocking one. */
  #descriptor: number | undefined
  #crc = 0
  #writing: Promise<void> = Promise.resolve()

  /** Without a path nothing is written: only size and digest are wanted. `blocking`: the thread writes itself, and waits. */
  constructor(path?: string, how?: 'blocking') {
    this.#path = path
    this.#blocking = how === 'blocking'
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
    if (this.#path !== undefined && this.#blocking) {
      this.#writeNow(this.#path, bytes.subarray(from, to))
      this.#sum(bytes, from, to)
      return false
    }
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
    if (this.#blocking) return this.#closeNow(this.#path)
    try {
      this.#handle ??= await open(this.#path, 'wx') // a chunk of refused records alone is an empty file
      await this.#handle.close()
    } catch (error) {
      throw localIoError(error, `close the chunk file ${this.#path}`)
    }
  }

  async discard(): Promise<void> {
    await this.#writing.catch(() => undefined) // what it wrote goes away
    if (this.#path === undefined || (this.#handle ?? this.#descriptor) === undefined) return
    await this.#handle?.close()
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
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

  #writeNow(path: string, part: Buffer): void {
    try {
      this.#descriptor ??= openSync(path, 'wx')
      for (let written = 0; written < part.length; )
        written += writeSync(this.#descriptor, part, written, part.length - written)
    } catch (error) {
      throw localIoError(error, `write the chunk file ${path}`)
    }
  }

  #closeNow(path: string): void {
    try {
      this.#descriptor ??= openSync(path, 'wx')
      closeSync(this.#descriptor)
    } catch (error) {
      throw localIoError(error, `close the chunk file ${path}`)
    }
  }

  #sum(bytes: Buffer, from: number, to: number): void {
    const part = bytes.subarray(from, to)
    this.#crc = sumOf(part, this.#crc)
    this.bytes += part.length
  }
}
