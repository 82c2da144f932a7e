/** What a folder of an SFTP server holds. Names are the server's: none is trusted before it was looked at. */
import { isEnd, isMissing } from './errors.ts'
import type { SftpSession, Wrapper } from './session.ts'

export interface Attributes {
  readonly size: number
  /** Seconds since the epoch, by the clock of the server. */
  readonly mtime: number
  isFile(): boolean
  isDirectory(): boolean
  isSymbolicLink(): boolean
}

interface Listed {
  readonly filename: string
  readonly attrs: Attributes
}

export interface Entry {
  readonly name: string
  readonly attributes: Attributes
}

/** Answer by answer: a folder may have no end. */
export async function* entriesOf(session: SftpSession, path: string): AsyncIterable<Entry> {
  let wrapper: Wrapper | undefined
  const handle = await session.ask<Buffer>((sftp, answer) => {
    wrapper = sftp
    sftp.opendir(path, answer)
  })
  const onSame = <T>(request: (sftp: Wrapper, answer: (error: Error | null | undefined, value: T) => void) => void) =>
    session.ask<T>((sftp, answer) => {
      // On another connection the handle is that of something else.
      if (sftp === wrapper) request(sftp, answer)
      else answer(new Error('the connection was lost'), undefined as T)
    })
  try {
    for (;;) {
      const entries = await onSame<readonly Listed[]>((sftp, answer) => sftp.readdir(handle, answer as never)).catch(
        (error: unknown) => {
          if (isEnd(error)) return undefined
          throw error
        },
      )
      if (entries === undefined) return
      for (const { filename: name, attrs: attributes } of entries)
        if (name !== '.' && name !== '..') yield { name, attributes }
    }
  } finally {
    await onSame<void>((sftp, answer) => sftp.close(handle, (error) => answer(error))).catch(() => undefined) // lost with its connection
  }
}

/** Follows links. undefined: nothing is there. */
export function attributesOf(session: SftpSession, path: string): Promise<Attributes | undefined> {
  return session
    .ask<Attributes>((sftp, answer) => sftp.stat(path, answer as never))
    .catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
}

/** Without links, `.` and `..`. undefined: nothing is there. */
export function realPathOf(session: SftpSession, path: string): Promise<string | undefined> {
  return session
    .ask<string>((sftp, answer) => sftp.realpath(path, answer))
    .catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
}

/** Why a name is none that a file of a folder can have; undefined: it is one. */
export function faultOfName(name: string): string | undefined {
  if (name === '' || name === '.' || name === '..') return 'is not the name of a file'
  if (name.includes('/')) return 'leads to another folder'
  if (/\p{Cc}/u.test(name)) return 'has control characters'
  if (name.includes('\ufffd')) return 'is not UTF-8'
  return undefined
}
