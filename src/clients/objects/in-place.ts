/**
 * Lets the engine read a source where it is: by a second name of the same file in the chunk folder, which no name that is
 * given away meanwhile can break; where there can be none, by its own name. A symbolic link would not do: the engine
 * resolves it, and the place it leads to is outside the folders that it may read.
 */
import { constants, copyFile, link, realpath, rm, stat } from 'node:fs/promises'
import { sep } from 'node:path'
import { AdflowError, localIoError } from '../../core/errors.ts'
import { type FileFacts, factsOf } from './discover.ts'
import { isUnchanged } from './identity.ts'

/** Where a file cannot have a second name: another file system, one that has none, or a foreign file. */
const NO_LINK = new Set(['EXDEV', 'EPERM', 'EACCES', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])

/** The engine takes a name with these for a pattern. */
const PATTERN = /[*?[\]{}\\]/

/** A file that the engine can read, and how to give it up: a source that is read by its own name must never be deleted. */
export interface Readable {
  readonly file: string
  discard(): Promise<void>
}

/** A file of the chunk folder. */
export function ownFile(file: string): Readable {
  return { file, discard: () => rm(file, { force: true }) }
}

/** Without a copy. `folders`: real paths in which the engine may read. undefined: it cannot be done here. */
export async function readInPlace(
  source: string,
  target: string,
  facts: FileFacts,
  folders: readonly string[],
): Promise<Readable | undefined> {
  if (await linkInPlace(source, target, facts)) return ownFile(target)
  const file = await realpath(source).catch(() => undefined) // gone: the reader of the lane finds out
  if (file === undefined || PATTERN.test(file)) return undefined
  if (!folders.some((folder) => file.startsWith(`${folder}${sep}`))) return undefined
  const found = factsOf(await stat(file, { bigint: true }))
  return found !== undefined && isUnchanged(facts, found) ? { file, discard: async () => undefined } : undefined
}

/** false: it cannot be done here, or the name leads to another file by now. */
export async function linkInPlace(source: string, target: string, facts: FileFacts): Promise<boolean> {
  try {
    await link(await realpath(source), target)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (NO_LINK.has(code) || code === 'ENOENT') return false
    throw localIoError(error, `link ${source} to ${target}`)
  }
  const linked = factsOf(await stat(target, { bigint: true }))
  if (linked !== undefined && isUnchanged(facts, linked)) return true
  await rm(target, { force: true })
  return false
}

/** In place, or else a copy. Throws SOURCE_CHANGED when the file changed meanwhile. */
export async function bringIn(
  source: string,
  target: string,
  facts: FileFacts,
  folders: readonly string[],
): Promise<Readable> {
  const found = await readInPlace(source, target, facts, folders)
  if (found !== undefined) return found
  const copy = ownFile(target)
  try {
    await copyFile(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
    await verifyInPlace(source, source, facts)
  } catch (error) {
    await copy.discard()
    throw localIoError(error, `copy ${source} to ${target}`)
  }
  return copy
}

export async function verifyInPlace(path: string, source: string, facts: FileFacts): Promise<void> {
  const stats = await stat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  const now = stats === undefined ? undefined : factsOf(stats)
  if (now !== undefined && isUnchanged(facts, now)) return
  throw new AdflowError('SOURCE_CHANGED', `${source} was changed while it was read in place`, {
    hint: 'run again: the range is planned and is read again from what stands there then',
  })
}
