/** Files that loaders write, read the way docs tell people to read them. */
import { ident, literal } from '../../src/engine/sql-text.ts'

/** name → engine type. */
type Columns = Readonly<Record<string, string>>

/** Of a loader with these options: names that carry the digits of a token. */
export function writtenFiles(
  names: readonly string[],
  { format, name = '' }: Readonly<Record<string, unknown>>,
): readonly string[] {
  const pattern = new RegExp(`(?:^|/)${name}[0-9a-f]{24}(?:-\\d+)?\\.${format}(?:\\.gz|\\.zst)?$`)
  return names.filter((file) => pattern.test(file))
}

/** SELECT of the columns in their types. */
export function rowsOfFiles(
  paths: readonly string[],
  { format }: Readonly<Record<string, unknown>>,
  columns: Columns,
): string {
  const none = Object.keys(columns).map((column) => `NULL AS ${ident(column)}`)
  if (paths.length === 0) return `SELECT ${typed(columns)} FROM (SELECT ${none.join(', ')}) WHERE false`
  const list = `[${paths.map(literal).join(', ')}]`
  if (format === 'parquet')
    return `SELECT ${typed(columns)} FROM read_parquet(${list}, union_by_name = true, hive_partitioning = false)`
  if (format === 'csv')
    return `SELECT ${typed(columns)} FROM read_csv(${list}, header = true, all_varchar = true, union_by_name = true, allow_quoted_nulls = false, delim = ',', quote = '"', escape = '"', comment = '', hive_partitioning = false)`
  const types = Object.entries(columns).map(([name, type]) => `${literal(name)}: ${literal(type)}`)
  return `SELECT ${Object.keys(columns).map(ident).join(', ')} FROM read_json(${list}, format = 'newline_delimited', columns = {${types.join(', ')}}, hive_partitioning = false)`
}

function typed(columns: Columns): string {
  return Object.entries(columns)
    .map(([name, type]) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
    .join(', ')
}
