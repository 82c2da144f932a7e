/**
 * Publishes the files of one batch so that a kill at any instant leaves the batch without a manifest, or with it and all
 * its files: intent (final names) → rename each → manifest → intent removed. What a killed attempt has left under final
 * names stands in its intent, and the next attempt removes or overwrites it.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import pLimit from 'p-limit'
import { publish, removeDurably, syncDirectory, writeDurably } from '../../core/durable.ts'
import { localIoError } from '../../core/errors.ts'
import type { FileDigest } from './follow-file.ts'
import {
  intentFile,
  type Manifest,
  manifestFile,
  type PublishedFile,
  type PublishPlace,
  readIntent,
} from './publish-manifest.ts'

const FILES_AT_ONCE = 8
const HASH_BUFFER_BYTES = 1 << 18

/** A finished file on the same file system as the folder. */
export interface StagedFile {
  readonly temporary: string
  /** Final name, relative to the folder. */
  readonly path: string
  readonly rows?: number
  /** Of all its bytes, where they were read while they were written. */
  readonly digest?: FileDigest
}

/** Resolved = durable. The batch has no manifest yet. */
export async function publishBatch(
  place: PublishPlace,
  batch: Omit<Manifest, 'version' | 'files'>,
  staged: readonly StagedFile[],
): Promise<Manifest> {
  const { folder } = place
  const limit = pLimit(FILES_AT_ONCE)
  const names = staged.map(({ path }) => path)
  const left = (await readIntent(place, batch.token)).filter((name) => !names.includes(name))
  const intent = JSON.stringify({ version: 1, token: batch.token, files: [...names, ...left] })
  // All three before the first rename, in any order: the disk writes while the bytes are hashed.
  const [files] = await allSettled([
    allSettled(staged.map((file) => limit(() => describe(file)))),
    allSettled(staged.map(({ temporary }) => limit(() => syncFile(temporary)))),
    writeDurably(intentFile(place, batch.token), intent),
  ])
  for (const name of left) await removeIfThere(join(folder, name))
  for (const parent of new Set(names.map((name) => dirname(join(folder, name))))) await makeFolder(folder, parent)
  await allSettled(staged.map(({ temporary, path }) => limit(() => publish(temporary, join(folder, path)))))
  const manifest: Manifest = { version: 1, ...batch, files }
  await writeDurably(manifestFile(place, batch.token), `${JSON.stringify(manifest)}\n`)
  await forgetIntent(place, batch.token)
  return manifest
}

/** Like Promise.all, but rejects only when nothing is under way any more: a rename that comes late would fall into the
 *  next attempt. */
async function allSettled<const T extends readonly unknown[]>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work)
  return Promise.all(work)
}

/** An intent beside a manifest means nothing, so its removal need not be durable. */
export async function forgetIntent(place: PublishPlace, token: string): Promise<void> {
  const intent = intentFile(place, token)
  await rm(intent, { force: true }).catch((error) => {
    throw localIoError(error, `remove ${intent}`)
  })
}

async function describe({ temporary, path, rows, digest }: StagedFile): Promise<PublishedFile> {
  if (digest !== undefined) return { path, ...(rows === undefined ? {} : { rows }), ...digest }
  try {
    const sha256 = createHash('sha256')
    for await (const bytes of createReadStream(temporary, { highWaterMark: HASH_BUFFER_BYTES })) sha256.update(bytes)
    const { size } = await stat(temporary)
    return { path, ...(rows === undefined ? {} : { rows }), bytes: size, sha256: sha256.digest('hex') }
  } catch (error) {
    throw localIoError(error, `read back ${temporary}`)
  }
}

async function syncFile(path: string): Promise<void> {
  try {
    const handle = await open(path, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw localIoError(error, `sync ${path}`)
  }
}

/** The folder of an attempt that was killed early may never have been made. */
async function removeIfThere(file: string): Promise<void> {
  try {
    await stat(file)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') return
    throw localIoError(error, `look at ${file}`)
  }
  await removeDurably(file)
}

/** Folders that this process has made durable. */
const durableFolders = new Set<string>()

/** Syncs each level once per process, also where the folder exists: a killed process may have made it unsynced. */
async function makeFolder(root: string, folder: string): Promise<void> {
  try {
    const made = await mkdir(folder, { recursive: true })
    if (made === undefined && durableFolders.has(folder)) return
  } catch (error) {
    throw localIoError(error, `make the folder ${folder}`)
  }
  for (let path = folder; path !== root && path.startsWith(root); path = dirname(path))
    await syncDirectory(dirname(path))
  durableFolders.add(folder)
}
