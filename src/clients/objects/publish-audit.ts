/** What a place of published batches has: every file of every manifest is read and digested again. */
import { createHash, hash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { join } from 'node:path'
import pLimit from 'p-limit'
import { localIoError } from '../../core/errors.ts'
import type { ContentDigest, FoundContent, StoreAudit } from '../../core/store-contract.ts'
import { tokenNumber } from '../../core/token.ts'
import { type Manifest, type PublishedFile, type PublishPlace, readManifests } from './publish-manifest.ts'

const FILES_AT_ONCE = 4
const ALGORITHM = 'sha256 of files'

/** Of a batch as its manifest has it: written in the moment when its files were. */
export function manifestContent({ files, rows }: Manifest): ContentDigest {
  return { rows, algorithm: ALGORITHM, value: digestOfFiles(files) }
}

function digestOfFiles(files: readonly Pick<PublishedFile, 'path' | 'sha256'>[]): string {
  return hash('sha256', JSON.stringify(files.map(({ path, sha256 }) => [path, sha256]).sort()))
}

export async function auditPublished(place: PublishPlace): Promise<StoreAudit> {
  return auditManifests(await readManifests(place), (file) => sha256Of(place, file))
}

/** `sha256Of`: of what is there now; undefined where the file is gone. */
export async function auditManifests(
  manifests: readonly Manifest[],
  sha256Of: (file: PublishedFile) => Promise<string | undefined>,
): Promise<StoreAudit> {
  const limit = pLimit(FILES_AT_ONCE)
  const lookAt = async (file: PublishedFile): Promise<Looked> => ({ file, sha256: await sha256Of(file) })
  const found = await Promise.all(
    manifests.map(async (manifest) => {
      const read = manifest.files.map((file) => limit(() => lookAt(file)))
      return [String(tokenNumber(manifest.token)), contentOf(manifest, await Promise.all(read))] as const
    }),
  )
  return {
    entries: new Map(manifests.map(({ token, job, rows }) => [token, { job, rows }])),
    found: new Map(found),
    algorithm: ALGORITHM,
    replaces: false,
  }
}

interface Looked {
  readonly file: PublishedFile
  /** undefined: the file is gone. */
  readonly sha256: string | undefined
}

/** Rows are those of the manifest, without those of files that are gone. */
function contentOf({ rows }: Manifest, looked: readonly Looked[]): FoundContent {
  const gone = looked.filter(({ sha256 }) => sha256 === undefined)
  const changed = looked.filter(({ file, sha256 }) => sha256 !== undefined && sha256 !== file.sha256)
  const lost = gone.reduce((total, { file }) => total + (file.rows ?? (looked.length === 1 ? rows : 0)), 0)
  return {
    rows: rows - lost,
    value: digestOfFiles(
      looked.flatMap(({ file, sha256 }) => (sha256 === undefined ? [] : [{ path: file.path, sha256 }])),
    ),
    faults: [
      ...gone.map(({ file }) => `${file.path} is gone`),
      ...changed.map(({ file }) => `${file.path} does not have the bytes that were published`),
    ],
  }
}

async function sha256Of({ folder }: PublishPlace, { path }: PublishedFile): Promise<string | undefined> {
  const file = join(folder, path)
  if (!existsSync(file)) return undefined
  try {
    const digest = createHash('sha256')
    for await (const bytes of createReadStream(file, { highWaterMark: 1 << 18 })) digest.update(bytes as Buffer)
    return digest.digest('hex')
  } catch (error) {
    throw localIoError(error, `read back ${file}`)
  }
}
