/**
 * What a file format cannot hold as it is. COPY rounds such values in silence (a HUGEINT becomes a DOUBLE in Parquet), so
 * these columns are written as another type that keeps them exact.
 */
import type { EncodedFormat, EngineConnection } from '../core/contracts.ts'
import { ident } from './sql-text.ts'

interface Substitute {
  readonly type: RegExp
  readonly as: string
}

/** A type name is written in capitals and followed by a bracket, a comma or the end; a field of that name by its type. */
const SUBSTITUTES: Readonly<Record<EncodedFormat, readonly Substitute[]>> = {
  parquet: [
    { type: /\bU?HUGEINT(?=[,)[]|$)/g, as: 'DECIMAL(38,0)' },
    { type: /\bINTERVAL(?=[,)[]|$)/g, as: 'VARCHAR' }, // Parquet intervals have milliseconds
    { type: /\bTIME WITH TIME ZONE(?=[,)[]|$)/g, as: 'VARCHAR' }, // moved to UTC
  ],
  // Most readers make a double of a JSON number with a fraction: 15 digits survive that, more do not.
  ndjson: [{ type: /\bDECIMAL\((?:1[6-9]|[23]\d),\d+\)/g, as: 'VARCHAR' }],
  csv: [],
}

export interface TypedColumn {
  readonly name: string
  readonly type: string
}

/** Items of a SELECT that writes each value exactly; undefined where all columns can go as they are. */
export async function exactItems(
  engine: EngineConnection,
  relation: string,
  columns: readonly TypedColumn[],
  format: EncodedFormat,
): Promise<readonly string[] | undefined> {
  const items = new Map<string, string>()
  for (const { name, type } of columns) {
    const exact = writtenType(type, format)
    if (exact !== type) items.set(name, `CAST(${ident(name)} AS ${exact}) AS ${ident(name)}`)
  }
  if (format === 'ndjson')
    // JSON has no NaN and no infinity; bare ones are written by COPY and refused by strict readers.
    for (const name of await withNaN(engine, relation, columns))
      items.set(
        name,
        `CASE WHEN isfinite(${ident(name)}) THEN to_json(${ident(name)}) ELSE to_json(CAST(${ident(name)} AS VARCHAR)) END AS ${ident(name)}`,
      )
  if (items.size === 0) return undefined
  return columns.map(({ name }) => items.get(name) ?? ident(name))
}

/** The type as which a column is written: its own, or the substitute that keeps it exact. */
export function writtenType(type: string, format: EncodedFormat): string {
  return SUBSTITUTES[format].reduce((text, substitute) => text.replace(substitute.type, substitute.as), type)
}

/** Whether exactItems() reads the rows to answer, so that they are read twice. */
export function looksAtRows(columns: readonly TypedColumn[], format: EncodedFormat): boolean {
  return format === 'ndjson' && columns.some(isFloat)
}

function isFloat({ type }: TypedColumn): boolean {
  return type === 'DOUBLE' || type === 'FLOAT'
}

async function withNaN(
  engine: EngineConnection,
  relation: string,
  columns: readonly TypedColumn[],
): Promise<readonly string[]> {
  const floats = columns.filter(isFloat).map(({ name }) => name)
  if (floats.length === 0) return []
  const any = floats.map((name) => `coalesce(bool_or(NOT isfinite(${ident(name)})), false) AS ${ident(name)}`)
  const [row] = await engine.rows(`SELECT ${any.join(', ')} FROM ${relation} AS batch`)
  return floats.filter((name) => row?.[name] === true)
}
