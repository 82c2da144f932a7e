/** What a folder still has of batches of the past. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import pLimit from 'p-limit'
import type { EncodedFormat } from '../../core/contracts.ts'
import { removeDurably, writeDurably } from '../../core/durable.ts'
import { localIoError } from '../../core/errors.ts'
import type { BatchComparison } from '../../core/store-contract.ts'
import { sameRows } from '../../engine/same-rows.ts'
import { list } from '../../engine/sql-text.ts'
import {
  intentFile,
  type Manifest,
  manifestFile,
  type PublishedFile,
  type PublishPlace,
  readIntent,
  readManifest,
} from './publish-manifest.ts'

const LOOKS_AT_ONCE = 16

/** Files of the batch that are there with their size. */
export async function filesThere({ folder }: PublishPlace, { files }: Manifest): Promise<readonly PublishedFile[]> {
  const limit = pLimit(LOOKS_AT_ONCE)
  const sizes = await Promise.all(files.map(({ path }) => limit(() => sizeOf(join(folder, path)))))
  return files.filter(({ bytes }, index) => sizes[index] === bytes)
}

/** Of a batch of which a file is gone only the rows of the others count, as far as they are known. */
export async function rowsThere(place: PublishPlace, manifest: Manifest): Promise<number> {
  const there = await filesThere(place, manifest)
  if (there.length === manifest.files.length) return manifest.rows
  return there.reduce((total, { rows = 0 }) => total + rows, 0)
}

/** The batch counts as unpublished from here on. The intent names its files, so that the next publication clears them up:
 *  whatever is killed, the batch is missing until that has happened. */
export async function retract(place: PublishPlace, token: string): Promise<void> {
  const manifest = await readManifest(place, token)
  if (manifest === undefined) return
  const files = [...new Set([...manifest.files.map(({ path }) => path), ...(await readIntent(place, token))])]
  await writeDurably(intentFile(place, token), JSON.stringify({ version: 1, token, files }))
  await removeDurably(manifestFile(place, token))
}

/** SELECTs of the rows that only one of two sets of files has. Rows of CSV and NDJSON are compared as the lines they are. */
export function differingRows(
  came: readonly string[],
  held: readonly string[],
  format: EncodedFormat,
): BatchComparison {
  const [one, other] = [came, held].map((files) => (files.length === 0 ? undefined : rowsOf(files, format)))
  const less = (from: string | undefined, without: string | undefined) =>
    from === undefined
      ? 'SELECT NULL AS "row" WHERE false'
      : without === undefined
        ? from
        : `${from} EXCEPT ALL ${without}`
  const same = one === undefined || other === undefined ? `SELECT ${one === other} AS same` : sameRows(one, other)
  return { same, missing: less(one, other), extra: less(other, one) }
}

function rowsOf(files: readonly string[], format: EncodedFormat): string {
  if (format === 'parquet')
    return `SELECT * FROM read_parquet(${list(files)}, union_by_name = true, hive_partitioning = false)`
  return `SELECT "row" FROM read_csv(${list(files)}, auto_detect = false, header = false, delim = e'\\x01', quote = '', escape = '', columns = {'row': 'VARCHAR'}, hive_partitioning = false)`
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw localIoError(error, `look at ${path}`)
  }
}
