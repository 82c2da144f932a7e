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

/** Of values in a row group: what makes dictionaries cheap to look for. Files that are kept are worth the engine's own, larger limit. */
const QUICK_DICTIONARY = 1024

/** Writes `relation` (a table name or parenthesised SELECT) as one file and returns the rows written. */
export async function encode(
  session: Session,
  relation: string,
  format: EncodedFormat | 'bytes' | 'lines',
  options: EncodeOptions,
): Promise<number> {
  const select = (options.select ?? 'SELECT * FROM {batch}').replaceAll('{batch}', relation)
  const compression = options.compression === undefined ? '' : `, COMPRESSION ${literal(options.compression)}`
  const quick = options.quick === true && format === 'parquet' ? `, DICTIONARY_SIZE_LIMIT ${QUICK_DICTIONARY}` : ''
  const written = await session.value(
    `COPY (${select}) TO ${literal(options.file)} (${FORMATS[format]}${compression}${quick})`,
  )
  return Number(written)
}
