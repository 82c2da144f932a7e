/** Finished files of a batch that nobody sees yet. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { localIoError } from '../../core/errors.ts'
import type { FileDigest } from './follow-file.ts'
import type { PublishedFile } from './publish-manifest.ts'

const HASH_BUFFER_BYTES = 1 << 18

export interface StagedFile {
  readonly temporary: string
  /** Final name, relative to the place. */
  readonly path: string
  readonly rows?: number
  /** Of all its bytes, where they were read while they were written. */
  readonly digest?: FileDigest
}

/** As the manifest has it. */
export async function describeStaged({ temporary, path, rows, digest }: StagedFile): Promise<PublishedFile> {
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

/** Like Promise.all, but rejects only when nothing is under way any more: a rename or an upload that comes late would fall into
 *  the next attempt. */
export async function allSettled<const T extends readonly unknown[]>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work)
  return Promise.all(work)
}
