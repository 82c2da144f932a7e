/** The commit mark of a batch that was published as files: a batch is in the folder if and only if it has a manifest. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import pLimit from 'p-limit'
import type { BatchInfo } from '../../core/contracts.ts'
import { AdflowError, localIoError } from '../../core/errors.ts'

/** Folder of manifests, intents and unfinished files, under the folder that is published to. */
export const META_FOLDER = '_adflow'
const READS_AT_ONCE = 16

export interface PublishedFile {
  /** Relative to the folder, with `/`. */
  readonly path: string
  /** Left out where the engine wrote the rows of one partition as several files. */
  readonly rows?: number
  readonly bytes: number
  readonly sha256: string
}

export interface Manifest extends BatchInfo {
  readonly version: 1
  readonly loader: string
  readonly rows: number
  readonly files: readonly PublishedFile[]
}

/** Manifests of different outputs in one folder are kept apart by `prefix` and `format`. */
export interface PublishPlace {
  readonly folder: string
  readonly prefix: string
  readonly format: string
}

export function manifestName({ prefix, format }: Pick<PublishPlace, 'prefix' | 'format'>, token: string): string {
  return `${prefix}${token}.${format}.json`
}

export function manifestFile(place: PublishPlace, token: string): string {
  return join(place.folder, META_FOLDER, manifestName(place, token))
}

export function intentFile({ folder, prefix, format }: PublishPlace, token: string): string {
  return join(folder, META_FOLDER, `${prefix}${token}.${format}.pending.json`)
}

/** undefined where the batch is not in the folder. */
export async function readManifest(place: PublishPlace, token: string): Promise<Manifest | undefined> {
  return readJson<Manifest>(manifestFile(place, token))
}

/** Final names that an unfinished publication of the batch may have left. */
export async function readIntent(place: PublishPlace, token: string): Promise<readonly string[]> {
  return (await readJson<{ readonly files: readonly string[] }>(intentFile(place, token)))?.files ?? []
}

async function readJson<T>(file: string): Promise<T | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${file}`)
  }
  try {
    return JSON.parse(text) as T
  } catch (error) {
    throw new AdflowError('STORE_DAMAGED', `${file} is not JSON: it was changed after adflow wrote it`, {
      cause: error,
      hint: 'restore it from a backup; without it nobody knows which files belong to the batch',
    })
  }
}

export async function readManifests({ folder, prefix, format }: PublishPlace): Promise<readonly Manifest[]> {
  const meta = join(folder, META_FOLDER)
  const limit = pLimit(READS_AT_ONCE)
  let names: string[]
  try {
    names = await readdir(meta)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw localIoError(error, `list ${meta}`)
  }
  const ending = `.${format}.json`
  const ours = names.filter(
    (name) => name.startsWith(prefix) && name.endsWith(ending) && isToken(name.slice(prefix.length, -ending.length)),
  )
  const read = await Promise.all(ours.sort().map((name) => limit(() => readJson<Manifest>(join(meta, name)))))
  return read.filter((manifest) => manifest !== undefined)
}

function isToken(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

/** @throws AdflowError STORE_MISMATCH where a file of the batch is gone or has another size. */
export async function verifyFiles({ folder }: PublishPlace, manifest: Manifest): Promise<void> {
  const limit = pLimit(READS_AT_ONCE)
  const check = async ({ path, bytes }: PublishedFile) => {
    const found = await stat(join(folder, path)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
      throw localIoError(error, `look at ${join(folder, path)}`)
    })
    if (found?.size === bytes) return
    throw new AdflowError(
      'STORE_MISMATCH',
      `${join(folder, path)} of batch ${manifest.token.slice(0, 12)} ${found === undefined ? 'is gone' : `has ${found.size} bytes, not ${bytes}`}, though its manifest says that it was published`,
      { hint: `restore the file, or remove ${META_FOLDER}/${manifest.token}* to have the batch written again` },
    )
  }
  await Promise.all(manifest.files.map((file) => limit(() => check(file))))
}
