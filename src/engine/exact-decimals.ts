/**
 * JSON numbers reach the engine as doubles: past 15 digits a decimal would lose its own. Rows on which that may have
 * happened are read again from their source text, and only they.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Chunk } from '../core/contracts.ts'
import { type AdmitContext, toOrdinals } from './admit.ts'
import { isExact } from './decimal-scale.ts'
import { pathOf } from './field-path.ts'
import { rulesSql } from './read-plan.ts'
import type { Session } from './session.ts'
import { ident, literal } from './sql-text.ts'

/** Where the records of a chunk stand: temp table, what is still to be asked of its source (see RawSource), and the ordinals that are not in it. */
interface ReadRows {
  readonly table: string
  readonly longNumbers: string | undefined
  readonly removed: readonly number[]
}

export async function exactDecimals(
  chunk: Chunk,
  { table, longNumbers, removed }: ReadRows,
  { session, plan, folder }: AdmitContext,
): Promise<void> {
  const found = await session.rows(`SELECT rowid::INTEGER AS r FROM ${ident(table)} WHERE __doubt ORDER BY 1`)
  const long = await longRows(longNumbers, session)
  const rowids = [...new Set([...found.map((row) => Number(row['r'])), ...long])].sort((a, b) => a - b)
  if (rowids.length === 0) return
  const columns = plan.columns.filter((column) => column.type.kind === 'decimal')
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
  // What the rules have passed was the rounded value.
  const rules = rulesSql(plan)
  if (rules !== undefined)
    await session.run(
      `UPDATE ${ident(table)} SET __ok = false WHERE __ok AND rowid IN (${rowids.join(', ')}) AND NOT (${rules})`,
    )
}

/** Numbers of the rows, ascending. The rows of the table are the records of the file that `longNumbers` reads. */
async function longRows(longNumbers: string | undefined, session: Session): Promise<readonly number[]> {
  if (longNumbers === undefined) return []
  if (Number(await session.value(`SELECT count(*) FROM (${longNumbers}) WHERE long`)) === 0) return []
  // A table numbers its rows while several threads fill it.
  await session.run(`CREATE OR REPLACE TEMP TABLE long_numbers AS ${longNumbers}`)
  const rows = await session.rows('SELECT rowid::INTEGER AS r FROM long_numbers WHERE long ORDER BY 1')
  await session.run('DROP TABLE long_numbers')
  return rows.map((row) => Number(row['r']))
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
