/** gzip and zstd as a forward stream of bytes, with everything before a damage delivered and a cap on expansion. */
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { AdflowError } from '../core/errors.ts'
import type { ByteSource } from './window.ts'

export type Compression = 'none' | 'gzip' | 'zstd'

/** Reading at a place of the compressed bytes. */
export interface RandomReader {
  /** 0 at the end. */
  readAt(target: Buffer, offset: number, length: number, position: number): Promise<number>
  close(): Promise<void>
}

export interface InflateOptions {
  /** Name of the source, for messages. */
  readonly origin: string
  /** Decompressed bytes to pass over: compressed sources have no other way to a place inside them. */
  readonly skip: number
  /** Decompressed over compressed size, looked at once `BOMB_FLOOR_BYTES` have come out. */
  readonly maxRatio: number
}

const INPUT_BYTES = 16 << 10
const OUTPUT_BYTES = 128 << 10
/** zlib drops the output of the call in which it meets damage: after the first error the rest is read in pieces so small. */
const FINE_OUTPUT_BYTES = 4 << 10
const BOMB_FLOOR_BYTES = 64 << 20

const GZIP_MAGIC = [0x1f, 0x8b]
const ZSTD_MAGIC = [0x28, 0xb5, 0x2f, 0xfd]

export function compressionOf(head: Buffer): Compression {
  if (GZIP_MAGIC.every((byte, index) => head[index] === byte)) return 'gzip'
  if (ZSTD_MAGIC.every((byte, index) => head[index] === byte) || isSkippableFrame(head)) return 'zstd'
  return 'none'
}

function isSkippableFrame(head: Buffer): boolean {
  return head.length >= 4 && (head.readUInt32LE(0) & 0xfffffff0) >>> 0 === 0x184d2a50
}

type Stream = ReturnType<typeof createGunzip>

export class Inflater implements ByteSource {
  readonly #reader: RandomReader
  readonly #kind: 'gzip' | 'zstd'
  readonly #options: InflateOptions
  readonly #input = Buffer.allocUnsafeSlow(INPUT_BYTES)
  #stream: Stream
  #state: { ended: boolean; error: Error | undefined; writing: boolean; wake: () => void }
  /** Where the present frame begins in the compressed bytes, and how far they were read. */
  #frameAt = 0
  #rawAt = 0
  #inputEnded = false
  #outputBytes = OUTPUT_BYTES
  #ready: Buffer = Buffer.alloc(0)
  #toSkip: number
  #produced = 0

  constructor(reader: RandomReader, kind: 'gzip' | 'zstd', options: InflateOptions) {
    this.#reader = reader
    this.#kind = kind
    this.#options = options
    this.#toSkip = options.skip
    this.#state = { ended: false, error: undefined, writing: false, wake: () => undefined }
    this.#stream = this.#start()
  }

  /** Compressed bytes taken in so far. */
  get rawPosition(): number {
    return this.#rawAt
  }

  async read(target: Buffer, offset: number, length: number): Promise<number> {
    while (this.#ready.length === 0) {
      const more = await this.#decompress()
      if (more === undefined) return 0
      this.#produced += more.length
      this.#refuseBomb()
      const skipped = Math.min(this.#toSkip, more.length)
      this.#toSkip -= skipped
      this.#ready = more.subarray(skipped)
    }
    const count = this.#ready.copy(target, offset, 0, Math.min(length, this.#ready.length))
    this.#ready = this.#ready.subarray(count)
    return count
  }

  async close(): Promise<void> {
    this.#stream.destroy()
    await this.#reader.close()
  }

  async #decompress(): Promise<Buffer | undefined> {
    for (;;) {
      const state = this.#state
      const output = this.#stream.read() as Buffer | null
      if (output !== null) return output
      if (state.error !== undefined) this.#recover(state.error)
      else if (state.ended) {
        if (!(await this.#nextFrame())) return undefined
      } else if (state.writing || this.#inputEnded) {
        await new Promise<void>((resolve) => {
          state.wake = resolve
        })
      } else await this.#feed()
    }
  }

  #start(): Stream {
    const create = this.#kind === 'gzip' ? createGunzip : createZstdDecompress
    const stream = create({ chunkSize: this.#outputBytes })
    const state = { ended: false, error: undefined as Error | undefined, writing: false, wake: (): void => undefined }
    stream.on('readable', () => state.wake())
    stream.on('end', () => {
      state.ended = true
      state.wake()
    })
    stream.on('error', (error) => {
      state.error = error
      state.wake()
    })
    this.#state = state
    return stream
  }

  async #feed(): Promise<void> {
    const state = this.#state
    const count = await this.#reader.readAt(this.#input, 0, INPUT_BYTES, this.#rawAt)
    this.#rawAt += count
    if (count === 0) {
      this.#inputEnded = true
      this.#stream.end()
      return
    }
    state.writing = true
    this.#stream.write(this.#input.subarray(0, count), () => {
      state.writing = false
      state.wake()
    })
  }

  /** Node's zstd stops after one frame, gzip goes on by itself: continue after the bytes that the frame used. */
  async #nextFrame(): Promise<boolean> {
    if (this.#kind === 'gzip') return false
    const consumed = this.#frameAt + this.#stream.bytesWritten
    const head = Buffer.alloc(4)
    const count = await this.#reader.readAt(head, 0, 4, consumed)
    if (count === 0) return false
    if (compressionOf(head.subarray(0, count)) !== 'zstd')
      throw this.#damaged(`after a whole zstd frame stand other bytes at compressed offset ${consumed}`)
    this.#restart(consumed)
    return true
  }

  #restart(rawAt: number): void {
    this.#stream.destroy()
    this.#frameAt = rawAt
    this.#rawAt = rawAt
    this.#inputEnded = false
    this.#stream = this.#start()
  }

  #recover(error: Error): void {
    const truncated = (error as NodeJS.ErrnoException).code === 'Z_BUF_ERROR'
    if (truncated) throw this.#damaged('ends in the middle of its compressed data', error)
    if (this.#outputBytes === FINE_OUTPUT_BYTES) throw this.#damaged(`cannot be decompressed (${error.message})`, error)
    this.#outputBytes = FINE_OUTPUT_BYTES
    this.#toSkip += this.#produced
    this.#produced = 0
    this.#restart(0)
  }

  #damaged(found: string, cause?: Error): AdflowError {
    return new AdflowError(
      'SOURCE_DAMAGED',
      `${this.#options.origin} ${found}, after ${this.#produced} bytes of decompressed data`,
      { cause, hint: 'replace the file by a whole copy; reading goes on where it stopped' },
    )
  }

  #refuseBomb(): void {
    const { maxRatio, origin } = this.#options
    if (this.#produced <= BOMB_FLOOR_BYTES || this.#produced <= maxRatio * this.#rawAt) return
    throw new AdflowError(
      'SOURCE_BOMB',
      `${origin} expands to more than ${maxRatio} times its size: ${this.#produced} bytes out of ${this.#rawAt}`,
      { hint: 'raise `max_ratio` if the file is trusted' },
    )
  }
}
