/**
 * A batch in parts: each lies in one slot, is small enough for one script, and is the same whenever the batch comes again. The engine
 * makes them, and keeps them until they are sent.
 */
import type { LoadBatch } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { ident, literal } from '../../engine/sql-text.ts'
import type { DataSql } from './data-sql.ts'
import { slotOf, slotsSql } from './slots.ts'

const PART_ENTRIES = 1000
const PART_BYTES = 512 * 1024
/** What is sent at once. */
const PAGE_PARTS = 256
const PAGE_BYTES = 2 * 1024 * 1024

/** Tables of the batch. */
interface Tables {
  /** Rows, with what the expressions of the job gave. */
  readonly rows: string
  /** slot, part, k, o, a: what goes into which part, in order. */
  readonly entries: string
  /** slot, part, number among those of the slot, page. */
  readonly parts: string
}

/** By the write: two loaders may cut one batch at the same time, on one connection. */
const tables = new WeakMap<LoadBatch, Tables>()
let writes = 0

function tablesOf(batch: LoadBatch): Tables {
  const known = tables.get(batch)
  if (known !== undefined) return known
  writes += 1
  const named = (what: string) => ident(`__adflow_redis_${what}_${writes}`)
  const made = { rows: named('rows'), entries: named('entries'), parts: named('parts') }
  tables.set(batch, made)
  return made
}

export interface Part {
  readonly slot: number
  /** Among those of its slot, from 0. */
  readonly number: number
  readonly keys: readonly string[]
  /** JSON: of each key what it gets. */
  readonly values: string
}

export interface CutBatch {
  readonly rows: number
  readonly pages: readonly number[]
}

/** @throws AdflowError STORE_MISMATCH where rows of the batch have no place in Redis; nothing was written */
export async function cutBatch(
  batch: LoadBatch,
  sql: DataSql,
  { clustered, prefix }: { readonly clustered: boolean; readonly prefix: string },
): Promise<CutBatch> {
  const { clock, engine, relation, token } = batch
  const { rows: table, entries: entriesTable, parts } = tablesOf(batch)
  // Expressions of the job may ask for the clock of the batch.
  await engine.run(`CREATE OR REPLACE TEMP MACRO now() AS TIMESTAMPTZ ${literal(clock)}`)
  await engine.run(`CREATE OR REPLACE TEMP TABLE ${table} AS ${sql.rows.replaceAll('{batch}', relation)}`)
  const [counted] = await engine.rows(
    `SELECT count(*) AS rows${sql.faults.map(({ where }, index) => `, count(*) FILTER (${where.replaceAll('{rows}', table)}) AS f${index}`).join('')} FROM ${table}`,
  )
  const rows = Number(counted?.['rows'])
  for (const [index, { message, hint }] of sql.faults.entries()) {
    const found = Number(counted?.[`f${index}`])
    if (found > 0)
      throw new AdflowError('STORE_MISMATCH', `${found} of ${rows} rows of batch ${token.slice(0, 12)} ${message}`, {
        hint: `${hint}; nothing of the batch was written`,
      })
  }
  const spread = clustered && !prefix.includes('{')
  const entries = sql.entries.replaceAll('{rows}', table)
  await engine.run(
    `CREATE OR REPLACE TEMP TABLE ${entriesTable} AS ${entriesSql(entries, spread ? undefined : slotOf(prefix))}`,
  )
  await engine.run(`DROP TABLE ${table}`)
  await engine.run(`CREATE OR REPLACE TEMP TABLE ${parts} AS ${partsSql(entriesTable)}`)
  const pages = await engine.rows(`SELECT DISTINCT page FROM ${parts} ORDER BY page`)
  return { rows, pages: pages.map(({ page }) => Number(page)) }
}

/** Only what is sent at once is put together at once. */
export async function pageOf(batch: LoadBatch, page: number, several: boolean): Promise<readonly Part[]> {
  const { entries, parts } = tablesOf(batch)
  const value = several ? `'[' || string_agg(a, ',' ORDER BY o) || ']'` : 'any_value(a)'
  const rows = await batch.engine.rows(`WITH keyed AS (SELECT slot, n, k, ${value} AS v
  FROM ${entries} JOIN (SELECT slot, part, n FROM ${parts} WHERE page = ${page}) USING (slot, part) GROUP BY slot, n, k)
SELECT slot, n, '[' || string_agg(to_json(k)::VARCHAR, ',' ORDER BY k) || ']' AS keys, '[' || string_agg(v, ',' ORDER BY k) || ']' AS vals
FROM keyed GROUP BY slot, n ORDER BY slot, n`)
  return rows.map(({ slot, n, keys, vals }) => ({
    slot: Number(slot),
    number: Number(n),
    keys: JSON.parse(String(keys)) as string[],
    values: String(vals),
  }))
}

export async function dropParts(batch: LoadBatch): Promise<void> {
  for (const table of Object.values(tablesOf(batch))) await batch.engine.run(`DROP TABLE IF EXISTS ${table}`)
}

/** `slot`: where all keys lie in one. */
function entriesSql(entries: string, slot: number | undefined): string {
  // Read twice where the slots of its keys are joined to it.
  const kept = slot === undefined ? 'MATERIALIZED ' : ''
  const slotted =
    slot === undefined
      ? `SELECT entries.*, slots.slot FROM entries JOIN (${slotsSql('SELECT DISTINCT k FROM entries')}) AS slots USING (k)`
      : `SELECT *, ${slot} AS slot FROM entries`
  return `WITH entries AS ${kept}(${entries}), slotted AS (${slotted}),
measured AS (SELECT *, row_number() OVER own - 1 AS before, sum(strlen(a) + strlen(k)) OVER own - strlen(a) - strlen(k) AS bytes
  FROM slotted WINDOW own AS (PARTITION BY slot ORDER BY k, o ROWS UNBOUNDED PRECEDING))
SELECT slot, before // ${PART_ENTRIES} + bytes // ${PART_BYTES} AS part, k, o, a FROM measured ORDER BY slot, part, k, o`
}

function partsSql(entries: string): string {
  return `SELECT slot, part, row_number() OVER (PARTITION BY slot ORDER BY part) - 1 AS n,
  (row_number() OVER paged - 1) // ${PAGE_PARTS} + (sum(bytes) OVER paged - 1) // ${PAGE_BYTES} AS page
FROM (SELECT slot, part, sum(strlen(a) + strlen(k)) AS bytes FROM ${entries} GROUP BY slot, part)
WINDOW paged AS (ORDER BY slot, part ROWS UNBOUNDED PRECEDING)`
}
