/** Bytes out of relations: one COPY per file, on the engine's threads. */
import type { EncodedFormat, EncodeOptions } from '../core/contracts.ts'
import type { Session } from './session.ts'
import { literal } from './sql-text.ts'

const FORMATS: Record<EncodedFormat | 'bytes' | 'lines', string> = {
  parquet: 'FORMAT parquet',
  csv: 'FORMAT csv, HEADER true',
  ndjson: 'FORMAT json',
  bytes: 'FORMAT blob',
  lines: "FORMAT csv, HEADER false, QUOTE '', ESCAPE ''",
}

/** Of values in a row group of 122,880: what makes dictionaries cheap to look for. */
const QUICK_DICTIONARY = 1024
/** Rows of a group in a file that is read once: the engine holds one of each column until it is written, and smaller ones stay in the cache. */
const QUICK_GROUP = 40_960
/** In files that are kept. The engine's own limit is twice that, and costs a quarter of the encoding where columns have more values anyway. */
const KEPT_DICTIONARY = 12_288

/** Writes `relation` (a table name or parenthesised SELECT) as one file and returns the rows written. */
export async function encode(
  session: Session,
  relation: string,
  format: EncodedFormat | 'bytes' | 'lines',
  options: EncodeOptions,
): Promise<number> {
  const select = (options.select ?? 'SELECT * FROM {batch}').replaceAll('{batch}', relation)
  const compression = options.compression === undefined ? '' : `, COMPRESSION ${literal(options.compression)}`
  const layout =
    options.quick === true
      ? `, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT ${QUICK_DICTIONARY}, ROW_GROUP_SIZE ${QUICK_GROUP}`
      : `, DICTIONARY_SIZE_LIMIT ${KEPT_DICTIONARY}`
  const written = await session.value(
    `COPY (${select}) TO ${literal(options.file)} (${FORMATS[format]}${compression}${format === 'parquet' ? layout : ''})`,
  )
  return Number(written)
}
