/** A file that a job is drafted from: its format, its fields with the types that the engine guesses, its raw values. */
import { open, stat } from 'node:fs/promises'
import { formatOf } from '../clients/objects/file-format.ts'
import { AdflowError } from '../core/errors.ts'
import { csvFrom } from '../engine/read-plan.ts'
import type { Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import { rawType, type TypeTree } from '../engine/types.ts'
import { uniqueNames } from '../records/csv.ts'

export interface SampleField {
  readonly name: string
  /** The engine's guess; of Parquet files the type itself. */
  readonly type: string
}

export interface SampleFile {
  readonly path: string
  readonly format: SampleFormat
  readonly fields: readonly SampleField[]
  /** Options of the extractor besides the path, where its defaults do not fit. */
  readonly options: Readonly<Record<string, unknown>>
  /** FROM clause that gives each field under its name: as raw text, as a job reads it; Parquet: as it is. */
  from(trees: ReadonlyMap<string, TypeTree>): string
}

type SampleFormat = 'ndjson' | 'json' | 'csv' | 'tsv' | 'parquet'

/** Records that the engine looks at for its guess; all that are taken into the sample are checked afterwards. */
const GUESS_ROWS = 100_000
const MAX_RECORD_BYTES = 16_000_000

/** @throws AdflowError USAGE where the file cannot be the source of a job. */
export async function openSampleFile(path: string, session: Session): Promise<SampleFile> {
  const { format, named } = await formatOfSample(path)
  const base = named ? {} : { format }
  try {
    if (format === 'parquet') return await parquetSample(path, session, base)
    return format === 'csv' || format === 'tsv'
      ? await csvSample(path, format, session, base)
      : await jsonSample(path, format, session, base)
  } catch (error) {
    if (!(error instanceof AdflowError) || error.code !== 'ENGINE_FAILED') throw error
    throw new AdflowError('USAGE', `cannot read ${path} as ${format}: ${error.message.split('\n', 1)[0]}`, {
      cause: error,
      hint: 'formats: NDJSON, JSON, CSV, TSV, Parquet; the first ones plain, gzip (.gz) or zstd (.zst)',
    })
  }
}

async function formatOfSample(path: string): Promise<{ format: SampleFormat; named: boolean }> {
  const head = await firstBytes(path)
  const byName = formatOf(path)
  const compressed = /\.(gz|gzip|zst|zstd)$/i.test(path)
  const start = head
    .toString('utf8')
    .replace(/^\uFEFF/, '')
    .trimStart()
  // Container files of Avro are drafted from by the extractor itself: see project.ts.
  if (byName !== undefined && byName !== 'avro') {
    // An array under the name of line-wise JSON.
    if (byName === 'ndjson' && !compressed && start.startsWith('[')) return { format: 'json', named: false }
    return { format: byName, named: true }
  }
  if (compressed)
    throw new AdflowError('USAGE', `cannot tell the format of ${path} by its name`, {
      hint: 'name it like events.ndjson.gz',
    })
  if (head.subarray(0, 4).toString('latin1') === 'PAR1') return { format: 'parquet', named: false }
  if (start.startsWith('{') || start.startsWith('[')) return { format: 'json', named: false }
  return { format: (start.split('\n', 1)[0] ?? '').includes('\t') ? 'tsv' : 'csv', named: false }
}

async function firstBytes(path: string): Promise<Buffer> {
  const problem = (reason: string, cause?: unknown) =>
    new AdflowError('USAGE', `cannot draft a job from ${path}: ${reason}`, {
      cause,
      hint: 'give --from a file with data',
    })
  try {
    const { size } = await stat(path)
    if (size === 0) throw problem('it is empty')
    const file = await open(path)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0)
      return buffer.subarray(0, bytesRead)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (error instanceof AdflowError) throw error
    throw problem((error as Error).message, error)
  }
}

type Base = Readonly<Record<string, unknown>>

async function parquetSample(path: string, session: Session, options: Base): Promise<SampleFile> {
  const from = `read_parquet(${literal(path)})`
  return { path, format: 'parquet', fields: await session.describe(`FROM ${from}`), options, from: () => from }
}

async function jsonSample(
  path: string,
  format: 'ndjson' | 'json',
  session: Session,
  options: Base,
): Promise<SampleFile> {
  const lines = format === 'ndjson' ? 'newline_delimited' : 'auto'
  // Malformed lines go to quarantine later; they must not keep the others from being looked at.
  const tolerant = format === 'ndjson' ? ', ignore_errors = true' : ''
  const shared = `format = '${lines}', records = true, maximum_object_size = ${MAX_RECORD_BYTES}${tolerant}`
  const guess = `FROM read_json(${literal(path)}, auto_detect = true, sample_size = ${GUESS_ROWS}, ${shared})`
  return {
    path,
    format,
    fields: await session.describe(guess),
    options,
    from: (trees) => {
      const columns = [...trees].map(([name, tree]) => `${literal(name)}: ${literal(rawType(tree))}`)
      return `read_json(${literal(path)}, columns = {${columns.join(', ')}}, ${shared})`
    },
  }
}

async function csvSample(path: string, format: 'csv' | 'tsv', session: Session, base: Base): Promise<SampleFile> {
  const delimiter = format === 'tsv' ? ", delim = '\t'" : ''
  const [sniffed] = await session.rows(`FROM sniff_csv(${literal(path)}, sample_size = ${GUESS_ROWS}${delimiter})`)
  const dialect = sniffed as { Delimiter: string; Quote: string; HasHeader: boolean; SkipRows: number }
  if (dialect.SkipRows > 0)
    throw new AdflowError('USAGE', `${path} has ${dialect.SkipRows} lines before its records`, {
      hint: 'take them out: the first record of a CSV file names the columns',
    })
  const guessed = (sniffed?.['Columns'] ?? []) as readonly { name: string; type: string }[]
  const delim = dialect.Delimiter
  const quote = dialect.Quote === '(empty)' ? '"' : dialect.Quote
  const header = dialect.HasHeader
  const numbered = guessed.map((_, index) => `column${index}`)
  const names = header ? await headerOf(path, delim, quote, numbered, session) : numbered
  const csv = {
    ...(format === 'csv' && delim !== ',' ? { delimiter: delim } : {}),
    ...(quote === '"' ? {} : { quote }),
    ...(header ? {} : { header: false }),
  }
  const chunk = { type: 'csv' as const, delimiter: delim, quote, header: names }
  // Ragged records go to quarantine later.
  const more = `${header ? ', skip = 1' : ''}, ignore_errors = true`
  return {
    path,
    format,
    fields: names.map((name, index) => ({ name, type: guessed[index]?.type ?? 'VARCHAR' })),
    options: Object.keys(csv).length === 0 ? base : { ...base, csv },
    from: () => csvFrom(chunk, path, MAX_RECORD_BYTES, more),
  }
}

/** The header as the extractor reads it. */
async function headerOf(
  path: string,
  delimiter: string,
  quote: string,
  numbered: readonly string[],
  session: Session,
): Promise<readonly string[]> {
  const from = csvFrom({ type: 'csv', delimiter, quote, header: numbered }, path, MAX_RECORD_BYTES)
  const [row] = await session.rows(`FROM ${from} LIMIT 1`)
  return uniqueNames(numbered.map((name) => String(row?.[name] ?? '')))
}
