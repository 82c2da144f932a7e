/**
 * Chunks of CSV and Parquet as NDJSON from which the contract makes the same values as from the chunk itself: a field that
 * the contract reads stands where the contract looks for it, in the raw form that the reader would give.
 */
import type { Chunk, ChunkFormat } from '../core/contracts.ts'
import { exactJson } from '../engine/exact-json.ts'
import { pathOf } from '../engine/field-path.ts'
import { type ContractColumn, csvSource, parquetSource, type RawSource, type ReadPlan } from '../engine/read-plan.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { resolveType, type TypeTree, typedSql } from '../engine/types.ts'

type Format<Type extends ChunkFormat['type']> = Extract<ChunkFormat, { type: Type }>

/** SELECT over `from`, which has the header's columns as text. */
export function csvRecords(plan: ReadPlan, format: Format<'csv'>, from: string): string {
  const fields = new Fields()
  const source = csvSource(plan, format, '')
  const header = new Map(format.header.map((name) => [name.toLowerCase(), name]))
  for (const column of plan.columns) {
    const name = header.get(column.from.toLowerCase())
    if (name === undefined) continue
    const { raw, parse } = source.value(column)
    // Text that does not parse goes on as text: the contract refuses it in the place of a nested value.
    fields.add(pathOf(column), parse === undefined ? raw : `coalesce(to_json(${parse(raw)}), to_json(${raw}))`)
    header.set(name.toLowerCase(), '')
  }
  for (const name of header.values()) if (name !== '') fields.add([name], ident(name))
  return `SELECT ${fields.select()} FROM ${from}`
}

export async function parquetRecords(session: Session, plan: ReadPlan, chunk: Chunk): Promise<string> {
  const types = new Map<string, { name: string; tree: TypeTree }>()
  for (const { name, type } of await session.describe(`SELECT * FROM read_parquet(${literal(chunk.file)})`))
    types.set(name.toLowerCase(), { name, tree: await resolveType(session, type) })
  const source = parquetSource(chunk.format as Format<'parquet'>, chunk.file, types)
  const fields = new Fields()
  const read = new Set<string>()
  for (const column of plan.columns) {
    const name = column.from.toLowerCase()
    if (!types.has(name)) continue
    read.add(name)
    fields.add(pathOf(column), parquetValue(column, source))
  }
  for (const [name, { name: own, tree }] of types) if (!read.has(name)) fields.add([own], exactJson(tree, ident(own)))
  return `SELECT ${fields.select()} FROM ${source.from}`
}

function parquetValue(column: ContractColumn, source: RawSource): string {
  const { raw, exact } = source.value(column)
  if (exact !== true) return raw
  return column.format === undefined ? exactJson(column.type, raw) : formatted(column.type, raw, column.format)
}

const PER_EPOCH: Record<string, string> = {
  epoch_s: '0.000001::DECIMAL(7, 6)',
  epoch_ms: '0.001::DECIMAL(4, 3)',
  epoch_us: '1',
}

/** A column that is a timestamp already, written as the contract says that records write it. */
function formatted(type: TypeTree, sql: string, format: string): string {
  const unit = PER_EPOCH[format]
  const instant = type.kind === 'timestamptz' ? `timezone('UTC', ${sql})` : `(${sql})::TIMESTAMP`
  const text =
    unit === undefined
      ? `strftime(${instant}, ${literal(format)})`
      : `(epoch_us(${instant})::DECIMAL(19, 0) * ${unit})::VARCHAR`
  const lost = `${typedSql(type, text, format)} IS DISTINCT FROM ${sql}`
  const message = literal(`a value of the type ${type.sql} does not survive in the format ${format}`)
  return `CASE WHEN ${lost} THEN error(${message}) ELSE ${text} END`
}

/** Keys of a record, as a tree: `from: device.os` stands inside `device`. The first to take a place keeps it. */
class Fields {
  readonly #root = new Map<string, Field>()

  add(path: readonly string[], sql: string): void {
    let level = this.#root
    for (const [index, name] of path.entries()) {
      const key = name.toLowerCase()
      const found = level.get(key)
      if (index === path.length - 1) {
        if (found === undefined) level.set(key, { name, sql, children: new Map() })
        return
      }
      const field = found ?? { name, children: new Map<string, Field>() }
      if (field.sql !== undefined) return
      level.set(key, field)
      level = field.children
    }
  }

  select(): string {
    return [...this.#root.values()].map((field) => `${jsonOf(field)} AS ${ident(field.name)}`).join(', ')
  }
}

interface Field {
  readonly name: string
  readonly sql?: string
  readonly children: Map<string, Field>
}

function jsonOf({ sql, children }: Field): string {
  if (sql !== undefined) return sql
  const inner = [...children.values()].map((field) => `${ident(field.name)} := ${jsonOf(field)}`)
  return `struct_pack(${inner.join(', ')})`
}
