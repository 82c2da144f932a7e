/**
 * Publishes the files of one batch so that a kill at any instant leaves the batch without a manifest, or with it and all
 * its files: intent (final names) → rename each → manifest → intent removed. What a killed attempt has left under final
 * names stands in its intent, and the next attempt removes or overwrites it.
 */
import { mkdir, open, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import pLimit from 'p-limit'
import { publish, removeDurably, syncDirectory, writeDurably } from '../../core/durable.ts'
import { localIoError } from '../../core/errors.ts'
import { intentFile, type Manifest, manifestFile, type PublishPlace, readIntent } from './publish-manifest.ts'
import { allSettled, describeStaged, type StagedFile } from './staged-file.ts'

const FILES_AT_ONCE = 8

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
    allSettled(staged.map((file) => limit(() => describeStaged(file)))),
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

/** An intent beside a manifest means nothing, so its removal need not be durable. */
export async function forgetIntent(place: PublishPlace, token: string): Promise<void> {
  const intent = intentFile(place, token)
  await rm(intent, { force: true }).catch((error) => {
    throw localIoError(error, `remove ${intent}`)
  })
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
