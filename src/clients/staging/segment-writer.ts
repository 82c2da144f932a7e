/** Pages on their way into a segment: written as they come, to a hidden file, until the segment is sealed or given up. */
import { type FileHandle, open, rm } from 'node:fs/promises'
import { temporaryPath } from '../../core/durable.ts'
import { localIoError } from '../../core/errors.ts'
import { NEWLINE } from '../../records/splitter.ts'
import { sumOf } from '../../records/sum.ts'
import { type Counted, NONE_COUNTED, type RecordCounter } from './record-counter.ts'

const LINE_END = Buffer.from('\n')
/** So much that is not on the disk is brought there while more is fetched: little is left to wait for when the segment is sealed. */
const SYNC_BYTES = 8 << 20

interface Extent {
  readonly bytes: number
  readonly crc32: number
  readonly counted: Counted
}

const NOTHING: Extent = { bytes: 0, crc32: 0, counted: NONE_COUNTED }

export class SegmentWriter {
  readonly file: string
  /** Of the pages that are whole. */
  pages: Extent = NOTHING
  #now: Extent = NOTHING
  #lastByte = NEWLINE
  #handle: FileHandle | undefined
  /** One at a time. What it fails with is told by close(): the kernel says it once. */
  #syncing: Promise<void> | undefined
  #syncFailure: unknown
  #syncedBytes = 0
  readonly #counter: RecordCounter

  /** `beside`: the final name. */
  constructor(beside: string, counter: RecordCounter) {
    this.file = temporaryPath(beside)
    this.#counter = counter
  }

  /** With what was written of the page that is not whole yet. */
  get bytes(): number {
    return this.#now.bytes
  }

  /** `records`: see PageSink. */
  async write(bytes: Buffer, records?: number): Promise<void> {
    if (bytes.length === 0) return
    try {
      this.#handle ??= await open(this.file, 'wx', 0o600)
      const at = this.#now.bytes
      for (let written = 0; written < bytes.length; )
        written += (await this.#handle.write(bytes, written, bytes.length - written, at + written)).bytesWritten
    } catch (error) {
      throw localIoError(error, `write the staged bytes ${this.file}`)
    }
    this.#now = {
      bytes: this.#now.bytes + bytes.length,
      crc32: sumOf(bytes, this.#now.crc32),
      counted: this.#counter.add(this.#now.counted, bytes, records),
    }
    this.#lastByte = bytes.at(-1) ?? NEWLINE
    if (this.#now.bytes - this.#syncedBytes >= SYNC_BYTES) this.#sync(this.#handle)
  }

  /** What was written is whole. Its last record gets the line end that it may lack. */
  async endPage(): Promise<void> {
    if (this.#lastByte !== NEWLINE) await this.write(LINE_END)
    this.#now = { ...this.#now, counted: this.#counter.settled(this.#now.counted) }
    this.pages = this.#now
  }

  /** Forgets what was written since the last whole page. */
  async dropPage(): Promise<void> {
    if (this.#now.bytes === this.pages.bytes) return
    try {
      await this.#handle?.truncate(this.pages.bytes)
    } catch (error) {
      throw localIoError(error, `cut ${this.file}`)
    }
    this.#now = this.pages
    this.#syncedBytes = Math.min(this.#syncedBytes, this.pages.bytes)
    this.#lastByte = NEWLINE
  }

  /** @throws AdflowError where some of the bytes may never reach the disk */
  async close(): Promise<void> {
    await this.#syncing
    try {
      if (this.#syncFailure !== undefined) throw this.#syncFailure
      await this.#handle?.close()
      this.#handle = undefined
    } catch (error) {
      throw localIoError(error, `close ${this.file}`)
    }
  }

  async discard(): Promise<void> {
    await this.#syncing
    await this.#handle?.close().catch(() => undefined) // it goes away with the file
    this.#handle = undefined
    await rm(this.file, { force: true }).catch(() => undefined) // what stays is swept by the next start
  }

  #sync(handle: FileHandle): void {
    if (this.#syncing !== undefined) return
    this.#syncedBytes = this.#now.bytes
    this.#syncing = handle
      .datasync()
      .catch((error: unknown) => {
        this.#syncFailure ??= error
      })
      .then(() => {
        this.#syncing = undefined
      })
  }
}
