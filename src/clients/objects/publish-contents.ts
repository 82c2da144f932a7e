/** Published files read back as rows that know their batch: the token stands in the name of the file. */
import type { Column, EncodedFormat, EngineConnection } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { StoreContents } from '../../core/store-contract.ts'
import type { TypedColumn } from '../../engine/exact.ts'
import { ident, list, literal } from '../../engine/sql-text.ts'

const FILE = '__adflow_file'
const LARGEST_OBJECT_BYTES = 64 * 1024 * 1024

export interface PublishedFiles {
  readonly files: readonly string[]
  readonly format: EncodedFormat
  /** Put before the token in file names: letters, digits, `.`, `_` and `-`. */
  readonly prefix: string
  /** Types of what text formats hold. */
  readonly columns: readonly Column[]
}

export async function publishedContents(engine: EngineConnection, published: PublishedFiles): Promise<StoreContents> {
  const reader = READERS[published.format](published)
  const described = await engine.rows(`DESCRIBE SELECT * FROM ${reader}`).catch((error: unknown) => {
    const message = error instanceof Error ? error.message.split('\n', 1)[0] : String(error)
    throw new AdflowError('STORE_DAMAGED', `a published file cannot be read: ${message}`, {
      cause: error,
      hint: '`adflow prove` names every file that is not as it was published; restore them, or have them written again',
    })
  })
  const found = described
    .map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }))
    .filter(({ name }) => name !== FILE && name !== 'file_row_number')
  const columns = published.format === 'csv' ? found.map((column) => typed(column, published.columns)) : found
  const items = columns.map(({ name, type }) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
  const parquet = published.format === 'parquet'
  const pattern = `/${published.prefix.replaceAll('.', '\\.')}([0-9a-f]{16})[0-9a-f]{8}[^/]*$`
  return {
    columns,
    select: `SELECT ${[...items, FILE, ...(parquet ? ['file_row_number'] : [])].join(', ')} FROM ${reader}`,
    batch: `(TRY_CAST('0x' || regexp_extract(${FILE}, ${literal(pattern)}, 1) AS UBIGINT)::BIT::BIGINT)`,
    order: parquet ? 'file_row_number' : 'CAST(0 AS BIGINT)',
  }
}

const READERS: Readonly<Record<EncodedFormat, (published: PublishedFiles) => string>> = {
  parquet: ({ files }) =>
    `read_parquet(${list(files)}, union_by_name = true, hive_partitioning = false, filename = '${FILE}', file_row_number = true)`,
  // As the loader writes it; types are given by the casts around.
  csv: ({ files }) =>
    `read_csv(${list(files)}, header = true, all_varchar = true, delim = ',', quote = '"', escape = '"', allow_quoted_nulls = false, union_by_name = true, hive_partitioning = false, filename = '${FILE}')`,
  ndjson: ({ files, columns }) =>
    `read_json(${list(files)}, format = 'newline_delimited', columns = {${columns.map(({ name, type }) => `${literal(name)}: ${literal(type)}`).join(', ')}}, hive_partitioning = false, filename = '${FILE}', maximum_object_size = ${LARGEST_OBJECT_BYTES})`,
}

function typed(column: TypedColumn, known: readonly Column[]): TypedColumn {
  const own = known.find(({ name }) => name.toLowerCase() === column.name.toLowerCase())
  return own === undefined ? column : { name: column.name, type: own.type }
}
