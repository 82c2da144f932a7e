/** Published files as one side of a comparison: what the manifests name, read back exactly as it was written. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { OpenComparison } from '../../core/comparison.ts'
import type { EncodedFormat, EngineConnection } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { embeddedSide } from '../../engine/compare-sql.ts'
import type { TypedColumn } from '../../engine/exact.ts'
import { ident, list, literal } from '../../engine/sql-text.ts'
import { type Manifest, META_FOLDER, type PublishPlace, readManifests } from './publish-manifest.ts'

/** The files of these batches. A file that is gone or cannot be read is remarked, and has no rows.
 *  @throws AdflowError STORE_UNAVAILABLE where the folder is gone */
export async function publishedComparison(
  place: PublishPlace,
  wanted: (manifest: Manifest) => boolean,
  columns: readonly TypedColumn[],
  engine: EngineConnection,
): Promise<OpenComparison> {
  const there = await stat(join(place.folder, META_FOLDER)).catch(() => undefined)
  if (there === undefined)
    throw new AdflowError('STORE_UNAVAILABLE', `${place.folder} is gone, or is no folder that adflow published to`, {
      hint: 'mount it or restore it, or load everything anew with `adflow state rewind --reload`',
    })
  const format = place.format as EncodedFormat
  const files: string[] = []
  const remarks: string[] = []
  for (const manifest of (await readManifests(place)).filter(wanted))
    for (const { path, bytes } of manifest.files) {
      const file = join(place.folder, path)
      const wrong = await whatIsWrong(file, bytes, format, columns, engine)
      if (wrong === undefined || wrong.readable) files.push(file)
      if (wrong !== undefined)
        remarks.push(
          `${file} of batch ${manifest.token.slice(0, 12)} ${wrong.what}, though its manifest says that it was published`,
        )
    }
  const relation = files.length === 0 ? noRows(columns) : `(${await readerOf(files, format, columns, engine)})`
  return { columns, batches: true, side: embeddedSide({ relation, batch: '__batch' }), remarks }
}

async function whatIsWrong(
  file: string,
  bytes: number,
  format: EncodedFormat,
  columns: readonly TypedColumn[],
  engine: EngineConnection,
): Promise<{ readonly what: string; readonly readable: boolean } | undefined> {
  const size = await stat(file).then(
    (found) => found.size,
    () => undefined,
  )
  if (size === undefined) return { what: 'is gone', readable: false }
  if (size === bytes) return undefined
  const readable = await readerOf([file], format, columns, engine)
    .then((select) => engine.rows(`SELECT count(COLUMNS(*)) FROM (${select})`))
    .then(
      () => true,
      () => false,
    )
  return { what: `has ${size} bytes, not ${bytes}${readable ? '' : ', and cannot be read'}`, readable }
}

/** The first 64 bits of the token in the file name, signed: see core/token.ts. */
const BATCH = `TRY_CAST('0x' || regexp_extract(filename, '([0-9a-f]{24})(-[0-9]+)?[.](parquet|csv|ndjson)([.](gz|zst))?$', 1)[1:16] AS UBIGINT)::BIT::BIGINT AS __batch`

/** SELECT of the columns in their types, and of the batch of each row; a column that no file has is NULL. */
async function readerOf(
  files: readonly string[],
  format: EncodedFormat,
  columns: readonly TypedColumn[],
  engine: EngineConnection,
): Promise<string> {
  const names = list(files)
  if (format === 'ndjson') {
    const types = columns.map(({ name, type }) => `${literal(name)}: ${literal(type)}`)
    return `SELECT ${columns.map(({ name }) => ident(name)).join(', ')}, ${BATCH} FROM read_json(${names}, format = 'newline_delimited', columns = {${types.join(', ')}}, filename = true, hive_partitioning = false)`
  }
  const reader =
    format === 'parquet'
      ? `read_parquet(${names}, union_by_name = true, filename = true, hive_partitioning = false)`
      : `read_csv(${names}, header = true, all_varchar = true, union_by_name = true, allow_quoted_nulls = false, delim = ',', quote = '"', escape = '"', comment = '', filename = true, hive_partitioning = false)`
  const found = await engine.rows(`DESCRIBE SELECT * FROM ${reader}`)
  const held = new Set(found.map((row) => String(row['column_name']).toLowerCase()))
  const items = columns.map(({ name, type }) =>
    held.has(name.toLowerCase())
      ? `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`
      : `NULL::${type} AS ${ident(name)}`,
  )
  return `SELECT ${[...items, BATCH].join(', ')} FROM ${reader}`
}

function noRows(columns: readonly TypedColumn[]): string {
  const items = columns.map(({ name, type }) => `NULL::${type} AS ${ident(name)}`)
  return `(SELECT ${[...items, 'NULL::BIGINT AS __batch'].join(', ')} WHERE false)`
}
