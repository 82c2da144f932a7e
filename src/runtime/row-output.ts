/** Where the rows of a stage go: one writer, one piece at a time, and an end when nobody reads any more. */
import { open } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { localIoError } from '../core/errors.ts'

const PIECE_BYTES = 1 << 20

/** The reader of the pipe has gone: no error, but nothing more can be written. */
export class PipeClosed extends Error {
  override readonly name = 'PipeClosed'
}

export class RowOutput {
  readonly #stream: Writable
  readonly #name: string
  #lost: Error | undefined
  /** For one file after the other. */
  #piece: Buffer | undefined

  /** `name`: for messages. */
  constructor(stream: Writable, name: string) {
    this.#stream = stream
    this.#name = name
    stream.on('error', (error: Error) => {
      this.#lost = error
    })
  }

  /** Resolves when the stream has taken the bytes, so that never more than one piece waits in memory.
   *  @throws PipeClosed when nobody reads any more. */
  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return
    if (this.#lost !== undefined) throw this.#closed(this.#lost)
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(bytes, (error) => (error ? reject(this.#closed(error)) : resolve()))
    })
  }

  line(text: string): Promise<void> {
    return this.write(Buffer.from(`${text}\n`))
  }

  /** The whole file, with a line end after its last line. */
  async file(path: string): Promise<void> {
    const handle = await open(path, 'r')
    try {
      this.#piece ??= Buffer.allocUnsafeSlow(PIECE_BYTES)
      const buffer = this.#piece
      let last: number | undefined
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length)
        if (bytesRead === 0) break
        last = buffer[bytesRead - 1]
        await this.write(buffer.subarray(0, bytesRead))
      }
      if (last !== undefined && last !== 10) await this.write(Buffer.from('\n'))
    } finally {
      await handle.close()
    }
  }

  #closed(error: NodeJS.ErrnoException): Error {
    if (error.code === 'EPIPE' || error.code === 'ERR_STREAM_DESTROYED')
      return new PipeClosed('nobody reads the rows any more', { cause: error })
    return localIoError(error, `write rows to ${this.#name}`)
  }
}
