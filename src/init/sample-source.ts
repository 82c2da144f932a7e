/** The first records of a source, as a file that a contract is drafted from. Nothing is acknowledged: the source stays as it was. */
import { appendFile, copyFile, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Chunk, Gap } from '../core/contracts.ts'
import type { ExtractorDefinition } from '../core/definitions.ts'
import { AdflowError, ERROR_CODES, type ErrorCode } from '../core/errors.ts'

/** About as much of a source is looked at. */
const SAMPLE_BYTES = 4 << 20
const CHUNK_BYTES = 1 << 20
const MAX_RECORD_BYTES = 16_000_000

export interface SourceSample {
  /** Parsed options of the extractor. */
  readonly options: unknown
  /** Relative paths in the options are relative to it. */
  readonly baseDir: string
  /** Emptied by whoever has made it. */
  readonly folder: string
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Path of the file, and whether it holds all of the source. @throws AdflowError SOURCE_… where nothing can be read */
export async function sampleSource(
  definition: ExtractorDefinition,
  { options, baseDir, folder, log, signal }: SourceSample,
): Promise<{ readonly file: string; readonly whole: boolean }> {
  const [chunkDir, stageDir] = [join(folder, 'chunks'), join(folder, 'staged')]
  for (const path of [chunkDir, stageDir]) await mkdir(path, { recursive: true, mode: 0o700 })
  const extractor = definition.create(options, { id: 'sample', job: 'sample', baseDir, chunkDir, stageDir, log })
  const stop = new AbortController()
  let file: string | undefined
  let bytes = 0
  let gap: Gap | undefined
  try {
    const items = extractor.read({
      ...{
        from: {},
        planned: [],
        until: 'now',
        parallel: 1,
        chunkBytes: CHUNK_BYTES,
        maxRecordBytes: MAX_RECORD_BYTES,
        keepLines: true,
      },
      signal: AbortSignal.any([signal, stop.signal]),
    })
    for await (const item of items) {
      if ('gap' in item) gap ??= item
      else {
        const name = join(folder, `sample.${item.format.type}`)
        if (file === undefined || file === name) bytes += await taken(item, name, file === undefined)
        file ??= name
        await item.release()
        if (item.format.type === 'parquet' || bytes >= SAMPLE_BYTES) break
      }
    }
  } finally {
    stop.abort()
    await extractor.close()
  }
  if (file !== undefined) return { file, whole: bytes < SAMPLE_BYTES && gap === undefined && !signal.aborted }
  signal.throwIfAborted()
  if (gap === undefined)
    throw new AdflowError('SOURCE_MISSING', 'the source has no records now', {
      hint: 'a contract is drafted from records: try again when there are some, or write it by hand',
    })
  const code = gap.code in ERROR_CODES ? (gap.code as ErrorCode) : 'SOURCE_UNREADABLE'
  throw new AdflowError(code, gap.message)
}

/** Bytes that were added. Records of CSV follow their header; a Parquet file is taken as it is. */
async function taken({ file, format }: Chunk, to: string, first: boolean): Promise<number> {
  if (format.type === 'parquet') {
    await copyFile(file, to)
    return 0
  }
  if (format.type === 'csv' && first) {
    const { delimiter, header } = format
    await appendFile(to, `${header.map((name) => `"${name.replaceAll('"', '""')}"`).join(delimiter)}\n`)
  }
  const bytes = await readFile(file)
  await appendFile(to, bytes)
  return bytes.length
}
