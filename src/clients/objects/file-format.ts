/** What a file is, by its name and its first bytes. */
import { extname } from 'node:path'
import { AdflowError } from '../../core/errors.ts'
import { type Compression, compressionOf } from '../../records/compression.ts'
import type { OpenFile } from './place.ts'
import type { FileFormat, ReadingOptions } from './reading.ts'

const BY_EXTENSION: Readonly<Record<string, FileFormat | 'tsv'>> = {
  '.ndjson': 'ndjson',
  '.jsonl': 'ndjson',
  '.ldjson': 'ndjson',
  '.log': 'ndjson',
  '.json': 'json',
  '.csv': 'csv',
  '.tsv': 'tsv',
  '.tab': 'tsv',
  '.avro': 'avro',
  '.parquet': 'parquet',
  '.pq': 'parquet',
}

const COMPRESSED: Readonly<Record<string, Compression>> = {
  '.gz': 'gzip',
  '.gzip': 'gzip',
  '.zst': 'zstd',
  '.zstd': 'zstd',
}

export interface FileKind {
  readonly format: FileFormat
  readonly compression: Compression
  /** The options with what the format itself decides: tabs in TSV. */
  readonly options: ReadingOptions
}

/** `app.log.1` is what `app.log` is: the endings that log rotation adds say nothing about the format. */
const ROTATED = /\.\d+$|[-.]\d{8}(?:-\d+)?$/

export function formatOf(path: string): FileFormat | 'tsv' | undefined {
  let name = path.toLowerCase()
  if (extname(name) in COMPRESSED) name = name.slice(0, -extname(name).length)
  return BY_EXTENSION[extname(name)] ?? BY_EXTENSION[extname(name.replace(ROTATED, ''))]
}

export function isCompressed(path: string): boolean {
  return extname(path.toLowerCase()) in COMPRESSED
}

/** Throws where name and content contradict each other, or where neither tells. */
export async function kindOf(file: OpenFile, path: string, options: ReadingOptions): Promise<FileKind> {
  const format = options.format ?? formatOf(path)
  if (format === undefined)
    throw new AdflowError('SOURCE_UNSUPPORTED', `cannot tell the format of ${path} by its name`, {
      hint: 'set `format: ndjson`, `json`, `csv`, `tsv`, `avro` or `parquet`, or `exclude` the file',
    })
  // Their blocks are compressed, not the file.
  const compression = format === 'parquet' || format === 'avro' ? 'none' : await compressionOfFile(file, path, options)
  if (format !== 'tsv') return { format, compression, options }
  return { format: 'csv', compression, options: { ...options, csv: { ...options.csv, delimiter: '\t' } } }
}

async function compressionOfFile(file: OpenFile, path: string, options: ReadingOptions): Promise<Compression> {
  const head = Buffer.alloc(4)
  const found = compressionOf(head.subarray(0, await file.readAt(head, 0, head.length, 0)))
  const byName = COMPRESSED[extname(path.toLowerCase())]
  const wanted = options.compression === 'auto' ? (byName ?? found) : options.compression
  if (wanted === found || file.facts.size === 0 || wanted === 'none') return file.facts.size === 0 ? 'none' : wanted
  throw new AdflowError('SOURCE_DAMAGED', `${path} should be ${wanted} but does not begin like it`, {
    hint: 'the file is damaged, or `compression` is wrong; replace it by a whole copy',
  })
}
