/**
 * The only door to files that must survive a crash: temp in the same folder, fsync, rename, fsync of the folder.
 * A reader sees the old content or the new one, never a part. Nothing here is retried: after a failed fsync the kernel
 * has dropped the dirty pages, and a second fsync would report success for bytes that never reached the disk.
 * Where a folder has a copy elsewhere (`durable-copy.ts`), durable means there, too.
 */
import { constants } from 'node:fs'
import { copyFile, type FileHandle, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { copied } from './durable-copy.ts'
import { localIoError } from './errors.ts'

const TEMPORARY = /^\..+\.\d+\.\d+\.tmp$/s
let temporaries = 0

/** A fresh hidden name beside `path`, `.<base>.<pid>.<n>.tmp`: on the same file system, and known to the sweeper. */
export function temporaryPath(path: string): string {
  temporaries += 1
  return join(dirname(path), `.${basename(path)}.${process.pid}.${temporaries}.tmp`)
}

/** Resolved: `path` holds exactly `data` and does so after a power cut. Rejected: `path` holds what it held before, or
 *  (only where the sync of the folder failed) either. */
export async function writeDurably(path: string, data: string | Buffer | readonly Uint8Array[]): Promise<void> {
  const temporary = temporaryPath(path)
  try {
    const handle = await open(temporary, 'wx')
    try {
      await handle.writeFile(data)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
    await syncNames(dirname(path))
  } catch (error) {
    await discard(temporary)
    throw localIoError(error, `write ${path}`)
  }
  await copied(path, 'replaced')
}

/** Makes a finished file visible under its final name. Across file systems the bytes are copied to a temp beside the
 *  final name first, so that the last step is always one rename. An existing `final` is replaced. */
export async function publish(temporary: string, final: string): Promise<void> {
  try {
    await syncFile(temporary)
    try {
      await rename(temporary, final)
    } catch (error) {
      if (errorCode(error) !== 'EXDEV') throw error
      await copyAcross(temporary, final)
    }
    await syncNames(dirname(final))
  } catch (error) {
    throw localIoError(error, `publish ${temporary} as ${final}`)
  }
  await copied(final, 'replaced')
}

async function copyAcross(from: string, final: string): Promise<void> {
  const beside = temporaryPath(final)
  try {
    await copyFile(from, beside, constants.COPYFILE_EXCL)
    await syncFile(beside)
    await rename(beside, final)
  } catch (error) {
    await discard(beside)
    throw error
  }
  await unlink(from)
}

/** Resolved: gone, also after a power cut. A file that was not there is fine. */
export async function removeDurably(path: string): Promise<void> {
  try {
    await rm(path, { force: true })
    await syncNames(dirname(path))
  } catch (error) {
    throw localIoError(error, `remove ${path}`)
  }
  await copied(path, 'replaced')
}

/** Cuts off what stands behind `bytes`, if anything does. Resolved: on disk. */
export async function truncateDurably(handle: FileHandle, bytes: number, path: string): Promise<void> {
  try {
    if ((await handle.stat()).size === bytes) return
    await handle.truncate(bytes)
    await handle.sync()
  } catch (error) {
    throw localIoError(error, `cut ${path} off after ${bytes} bytes`)
  }
  await copied(path, 'replaced')
}

/** Appends to a handle opened for appending. Resolved: on disk. Rejected: any prefix of `data` may have been written,
 *  and the handle must not be written to again. */
export async function appendDurably(
  handle: FileHandle,
  data: string | Buffer | readonly Uint8Array[],
  path: string,
): Promise<void> {
  try {
    if (typeof data === 'string' || Buffer.isBuffer(data)) await handle.appendFile(data)
    else await appendPieces(handle, data)
    await handle.datasync()
  } catch (error) {
    throw localIoError(error, `append to ${path}`)
  }
  await copied(path, 'appended')
}

/** In as few calls as the system takes: each waits for a thread, which on a busy machine costs more than the bytes. */
async function appendPieces(handle: FileHandle, pieces: readonly Uint8Array[]): Promise<void> {
  for (let rest = [...pieces]; rest.length > 0; ) {
    let { bytesWritten } = await handle.writev(rest)
    const whole = rest.findIndex(({ length }) => {
      if (length > bytesWritten) return true
      bytesWritten -= length
      return false
    })
    const cut = whole === -1 ? undefined : rest[whole]
    rest = cut === undefined ? [] : [cut.subarray(bytesWritten), ...rest.slice(whole + 1)]
  }
}

/** Makes the names in a folder durable. */
export async function syncDirectory(path: string): Promise<void> {
  try {
    await syncNames(path)
  } catch (error) {
    throw localIoError(error, `sync the folder ${path}`)
  }
  await copied(path, 'listed')
}

/** Windows has no such call, and journals names by itself. */
async function syncNames(path: string): Promise<void> {
  if (process.platform !== 'win32') await syncFile(path)
}

/** Removes temps that a killed process left behind: those last written before this process began and at least
 *  `olderThanMs` ago. Where other processes write to the same folder, `olderThanMs` must exceed their longest write. */
export async function sweepTemporaries(directory: string, olderThanMs = 0): Promise<readonly string[]> {
  const before = Math.min(performance.timeOrigin, Date.now() - olderThanMs)
  const swept: string[] = []
  try {
    for (const name of (await readdir(directory)).filter((entry) => TEMPORARY.test(entry)).sort()) {
      const path = join(directory, name)
      const found = await unlessGone(stat(path))
      if (found === undefined || found.mtimeMs >= before) continue
      await rm(path, { force: true })
      swept.push(path)
    }
  } catch (error) {
    throw localIoError(error, `sweep old temporary files in ${directory}`)
  }
  return swept
}

/** Others write to the folder too: what was there a moment ago may be gone. */
export async function unlessGone<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Clears up after an error that is about to be thrown: on a full disk the temp would hold the space that the user is
 *  told to free. A second error here would only hide the first; what stays is swept by the next start. */
async function discard(temporary: string): Promise<void> {
  await unlink(temporary).catch(() => undefined)
}

function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code
}
