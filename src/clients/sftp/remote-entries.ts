/** What a folder of an SFTP server holds. Names are the server's: none is trusted before it was looked at. */
import { isMissing } from './errors.ts'
import type { SftpSession } from './session.ts'

export interface Attributes {
  readonly size: number
  /** Seconds since the epoch, by the clock of the server. */
  readonly mtime: number
  isFile(): boolean
  isDirectory(): boolean
  isSymbolicLink(): boolean
}

export interface Entry {
  readonly name: string
  readonly attributes: Attributes
}

export function entriesOf(session: SftpSession, path: string): Promise<readonly Entry[]> {
  return session
    .ask<readonly { readonly filename: string; readonly attrs: Attributes }[]>((sftp, answer) =>
      sftp.readdir(path, answer as never),
    )
    .then((entries) => entries.map(({ filename: name, attrs: attributes }) => ({ name, attributes })))
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
