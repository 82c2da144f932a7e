/**
 * Lets the engine read a source where it is: a second name of the same file in the chunk folder. A symbolic link would not
 * do: the engine resolves it, and the place it leads to is outside the folders that it may read.
 */
import { constants, copyFile, link, realpath, rm, stat } from 'node:fs/promises'
import { AdflowError, localIoError } from '../../core/errors.ts'
import { type FileFacts, factsOf } from './discover.ts'
import { isUnchanged } from './identity.ts'

/** Where a file cannot have a second name: another file system, one that has none, or a foreign file. */
const NO_LINK = new Set(['EXDEV', 'EPERM', 'EACCES', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])

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

/** Links, or else copies. Throws SOURCE_CHANGED when the file changed meanwhile. */
export async function bringIn(source: string, target: string, facts: FileFacts): Promise<void> {
  if (await linkInPlace(source, target, facts)) return
  try {
    await copyFile(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
  } catch (error) {
    throw localIoError(error, `copy ${source} to ${target}`)
  }
  await verifyInPlace(source, source, facts)
}

export async function verifyInPlace(path: string, source: string, facts: FileFacts): Promise<void> {
  const now = factsOf(await stat(path, { bigint: true }))
  if (now !== undefined && isUnchanged(facts, now)) return
  throw new AdflowError('SOURCE_CHANGED', `${source} was changed while it was read in place`, {
    hint: 'run again: the range is planned and is read again from what stands there then',
  })
}
