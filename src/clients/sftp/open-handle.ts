/** One file of an SFTP server that is read: opened when it is needed, and anew when the connection was lost. */
import { isEnd } from './errors.ts'
import type { Attributes } from './remote-entries.ts'
import type { SftpSession, Wrapper } from './session.ts'

/** What servers give in one answer; OpenSSH takes twice that. */
const REQUEST_BYTES = 1 << 17

interface Opened {
  readonly wrapper: Wrapper
  readonly handle: Buffer
  readonly attributes: Attributes
}

export class OpenHandle {
  readonly #session: SftpSession
  readonly #path: string
  #opened: Promise<Opened> | undefined

  constructor(session: SftpSession, path: string) {
    this.#session = session
    this.#path = path
  }

  /** As they were when this connection opened the file. */
  async facts(): Promise<Attributes> {
    return (await this.#open()).attributes
  }

  /** Fewer bytes: the file ends before. Its requests are under way at the same time. */
  async read(from: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(length)
    const parts: Promise<number>[] = []
    for (let at = 0; at < length; at += REQUEST_BYTES)
      parts.push(this.#part(bytes.subarray(at, Math.min(length, at + REQUEST_BYTES)), from + at))
    const ends = await Promise.allSettled(parts)
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    const short = ends.findIndex((end, index) => end.status === 'fulfilled' && end.value < sizeOf(index, length))
    if (short === -1) return bytes
    const last = ends[short]
    return bytes.subarray(0, short * REQUEST_BYTES + (last?.status === 'fulfilled' ? last.value : 0))
  }

  /** A handle that is lost with its connection is closed by the server. */
  async close(): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined) // it never opened
    this.#opened = undefined
    if (opened === undefined) return
    await this.#session
      .ask<void>((sftp, answer) => {
        if (sftp === opened.wrapper) sftp.close(opened.handle, (error) => answer(error))
        else answer(null, undefined)
      })
      .catch(() => undefined)
  }

  async #part(target: Buffer, from: number): Promise<number> {
    const { handle, wrapper } = await this.#open()
    for (let filled = 0; ; ) {
      const read = await this.#request(wrapper, handle, target.subarray(filled), from + filled)
      filled += read
      if (read === 0 || filled === target.length) return filled
    }
  }

  /** Bytes read; 0: the file ends here. */
  #request(wrapper: Wrapper, handle: Buffer, target: Buffer, at: number): Promise<number> {
    return this.#session
      .ask<number>((sftp, answer) => {
        if (sftp !== wrapper) answer(new Error('the connection was lost'), 0)
        else sftp.read(handle, target, 0, target.length, at, (error, read) => answer(error, read))
      })
      .catch((error: unknown) => {
        if (isEnd(error)) return 0
        this.#opened = undefined
        throw error
      })
  }

  #open(): Promise<Opened> {
    this.#opened ??= this.#openNow().catch((error: unknown) => {
      this.#opened = undefined
      throw error
    })
    return this.#opened
  }

  async #openNow(): Promise<Opened> {
    let wrapper: Wrapper | undefined
    const handle = await this.#session.ask<Buffer>((sftp, answer) => {
      wrapper = sftp
      sftp.open(this.#path, 'r', answer)
    })
    const attributes = await this.#session.ask<Attributes>((sftp, answer) => sftp.fstat(handle, answer as never))
    return { wrapper: wrapper as Wrapper, handle, attributes }
  }
}

function sizeOf(index: number, length: number): number {
  return Math.min(REQUEST_BYTES, length - index * REQUEST_BYTES)
}
