/**
 * JSON numbers reach the engine as doubles: past 15 digits a decimal would lose its own. Rows on which that may have
 * happened are read again from their source text, and only they.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Chunk } from '../core/contracts.ts'
import { type AdmitContext, toOrdinals } from './admit.ts'
import { isExact } from './decimal-scale.ts'
import { pathOf } from './read-plan.ts'
import { ident, literal } from './sql-text.ts'

export async function exactDecimals(
  chunk: Chunk,
  table: string,
  removed: readonly number[],
  { session, plan, folder }: AdmitContext,
): Promise<void> {
  const doubtful = await session.rows(`SELECT rowid::INTEGER AS r FROM ${ident(table)} WHERE __doubt ORDER BY 1`)
  if (doubtful.length === 0) return
  const columns = plan.columns.filter((column) => column.type.kind === 'decimal')
  const rowids = doubtful.map((row) => Number(row['r']))
  const raws = await (chunk.stored ?? chunk.raw)(toOrdinals(rowids, removed))
  const lines = raws.map((raw, index) => {
    const record = parseWithSource(raw.toString('utf8'))
    const values = columns.map((column, field) => [`c${field}`, digits(record, pathOf(column))])
    return JSON.stringify({ r: rowids[index], ...Object.fromEntries(values) })
  })
  const file = join(folder, `exact-${session.id}.ndjson`)
  await writeFile(file, `${lines.join('\n')}\n`)
  const fields = columns.map((_, field) => `c${field}: 'VARCHAR'`)
  const sets = columns.map(
    (column, field) =>
      `${ident(column.name)} = coalesce(TRY_CAST(e.c${field} AS ${column.type.sql}), t.${ident(column.name)})`,
  )
  // The text of the double may have fitted the scale where the digits of the source do not.
  const rounded = columns.map(({ type }, field) => `NOT ${isExact(`e.c${field}`, type.scale ?? 0)}`)
  sets.push(`__ok = t.__ok AND NOT coalesce(${rounded.map((sql) => `coalesce(${sql}, false)`).join(' OR ')}, false)`)
  await session.run(
    `UPDATE ${ident(table)} AS t SET ${sets.join(', ')} FROM read_json(${literal(file)}, format = 'newline_delimited', columns = {r: 'BIGINT', ${fields.join(', ')}}) AS e WHERE t.rowid = e.r`,
  )
}

interface NumberText {
  readonly number: string
}

/** JSON.parse with numbers kept as their source text. */
function parseWithSource(text: string): unknown {
  const keep = (_key: string, value: unknown, context: { source?: string }): unknown =>
    typeof value === 'number' && context.source !== undefined
      ? ({ number: context.source } satisfies NumberText)
      : value
  return JSON.parse(text, keep as (key: string, value: unknown) => unknown)
}

function digits(record: unknown, path: readonly string[]): string | null {
  let value = record
  for (const key of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, key)) return null
    value = (value as Record<string, unknown>)[key]
  }
  if (typeof value === 'string') return value
  return value !== null && typeof value === 'object' && 'number' in value ? String((value as NumberText).number) : null
}
