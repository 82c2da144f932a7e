/**
 * A chunk becomes a typed table and a list of rejected records. Fast path: one statement. When the reader refuses the
 * chunk, the damaged records are found, taken out and the rest is read again; every record ends up in the table or in
 * the list, and the counts are checked against the extractor's own count of records.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Chunk } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { copyWithout, spansOf } from '../records/copy-without.ts'
import { csvSplitter } from '../records/csv.ts'
import { lines } from '../records/lines.ts'
import type { Splitter } from '../records/splitter.ts'
import { exactDecimals } from './exact-decimals.ts'
import { malformation } from './malformed.ts'
import {
  CONTRACT_RULES,
  cleanSql,
  csvFrom,
  csvSource,
  damagedJsonSql,
  forensicSql,
  jsonSource,
  parquetSource,
  type RawSource,
  type ReadPlan,
  rootKeys,
  strangeJsonSql,
  tableSql,
} from './read-plan.ts'
import type { Session } from './session.ts'
import { sourceFault } from './source-fault.ts'
import { ident, literal } from './sql-text.ts'
import { resolveType } from './types.ts'

export interface Failure {
  readonly rule: string
  readonly field: string | null
  readonly reason: string
}

/** A record that did not become a row, with every rule that it breaks; the first one names it. */
export interface Rejected {
  /** 0-based ordinal of the record in the chunk. */
  readonly ordinal: number
  /** rowid in the table; undefined where the record is not in it. */
  readonly row?: number
  readonly failures: readonly Failure[]
}

export interface Admitted {
  /** Temp table of the session: contract columns, `__ok`; `rowid` is the row's number among the rows of the table. */
  readonly table: string
  readonly rows: number
  /** Rows with `__ok`. */
  readonly passed: number
  readonly rejected: readonly Rejected[]
  /** Ordinals that are not in the table, ascending: rowid + the number of these before it = ordinal. */
  readonly removed: readonly number[]
}

export interface AdmitContext {
  readonly session: Session
  readonly plan: ReadPlan
  /** Folder for rewritten chunks, engine-readable. */
  readonly folder: string
  /** The reader met damage in the source's last chunk: look for damage first. No influence on the result. */
  readonly expectDamage: boolean
}

export async function admit(chunk: Chunk, table: string, context: AdmitContext): Promise<Admitted> {
  const { session, plan } = context
  const strange = await strangeRecords(chunk, context)
  let removed: number[] = [...strange.keys()]
  // Whoever cut a chunk knows its integers. Where they do not fit the contract nevertheless, one statement for all reasons decides.
  const integers = chunk.counted === undefined ? chunk.integers : undefined
  let source = await withoutDamaged(chunk, removed, context, context.expectDamage ? undefined : integers)
  const attempt = async (guard: boolean): Promise<number | undefined> => {
    try {
      const made = `CREATE OR REPLACE TEMP TABLE ${ident(table)} AS ${tableSql(plan, source, guard)}`
      return Number(await session.value(made))
    } catch (error) {
      if (error instanceof AdflowError && error.code !== 'ENGINE_FAILED') throw error
      return undefined
    }
  }
  const complete = (rows: number | undefined): rows is number => rows === chunk.records - removed.length

  let rows = context.expectDamage ? undefined : await attempt(false)
  if (integers !== undefined && !complete(rows)) source = await withoutDamaged(chunk, removed, context)
  if (!complete(rows) && chunk.format.type !== 'parquet') {
    for (const thorough of [false, true]) {
      removed = union(strange.keys(), await damaged(chunk, context, thorough))
      source = await withoutDamaged(chunk, removed, context)
      rows = await attempt(false)
      if (complete(rows)) break
    }
    if (!complete(rows)) rows = await attempt(true)
    if (!complete(rows)) {
      removed = union(strange.keys(), await isolate(chunk, context))
      source = await withoutDamaged(chunk, removed, context)
      rows = await attempt(true)
    }
  } else if (!complete(rows)) rows = await attempt(true)
  const nulls = complete(rows) ? await nullRecords(chunk, table, removed, context) : []
  if (nulls.length > 0) {
    removed = union(removed, nulls)
    source = await withoutDamaged(chunk, removed, context)
    rows = await attempt(true)
  }
  if (!complete(rows)) await explain(chunk, tableSql(plan, source, true), rows, removed, session)

  if (plan.columns.some((column) => column.type.kind === 'decimal') && chunk.format.type === 'ndjson')
    await exactDecimals(chunk, { table, longNumbers: source.longNumbers, removed }, context)
  const bad = await session.rows(`SELECT rowid::INTEGER AS r FROM ${ident(table)} WHERE NOT __ok ORDER BY 1`)
  const rowids = bad.map((row) => Number(row['r']))
  const rejected = [
    ...strangeFailures(strange),
    ...(await malformed(
      chunk,
      removed.filter((ordinal) => !strange.has(ordinal)),
      context,
    )),
    ...(await forensics(chunk, rowids, removed, context)),
  ]
  rejected.sort((a, b) => a.ordinal - b.ordinal)
  return {
    table,
    rows: rows as number,
    passed: (rows as number) - bad.length,
    rejected,
    removed,
  }
}

/** SELECT of the rows of a chunk that is taken to be clean (see cleanSql). */
export async function chunkSql(chunk: Chunk, context: AdmitContext): Promise<string> {
  return cleanSql(context.plan, await sourceOf(chunk, chunk.file, context, { integers: chunk.integers }))
}

/** rowids (ascending) → ordinals in the chunk, given the removed ordinals (ascending). */
export function toOrdinals(rowids: readonly number[], removed: readonly number[]): number[] {
  let skipped = 0
  return rowids.map((rowid) => {
    while (skipped < removed.length && (removed[skipped] as number) <= rowid + skipped) skipped += 1
    return rowid + skipped
  })
}

async function sourceOf(
  chunk: Chunk,
  file: string,
  { plan, session }: AdmitContext,
  { only, integers }: { readonly only?: readonly number[]; readonly integers?: Chunk['integers'] } = {},
): Promise<RawSource> {
  if (chunk.format.type === 'ndjson') return jsonSource(plan, file, integers)
  if (chunk.format.type === 'csv') return csvSource(plan, chunk.format, file)
  const types = new Map<string, { name: string; tree: Awaited<ReturnType<typeof resolveType>> }>()
  for (const { name, type } of await session.describe(`SELECT * FROM read_parquet(${literal(file)})`))
    types.set(name.toLowerCase(), { name, tree: await resolveType(session, type) })
  const base = chunk.format.fromRow
  return parquetSource(
    chunk.format,
    file,
    types,
    only?.map((ordinal) => base + ordinal),
  )
}

/** Ordinals of the records that the reader refuses, found by the reader itself in one pass. */
async function damaged(chunk: Chunk, { session, plan }: AdmitContext, thorough: boolean): Promise<number[]> {
  if (chunk.format.type === 'ndjson') {
    // A table numbers its rows while several threads fill it; row_number() would leave all of the work to one.
    await session.run(`CREATE OR REPLACE TEMP TABLE damage AS ${damagedJsonSql(plan, chunk.file, thorough)}`)
    const rows = await session.rows('SELECT rowid::INTEGER AS ord FROM damage WHERE bad ORDER BY 1')
    await session.run('DROP TABLE damage')
    return rows.map((row) => Number(row['ord']))
  }
  if (chunk.format.type !== 'csv') return []
  const more = `, store_rejects = true, rejects_table = 'csv_rejects', rejects_scan = 'csv_scans', rejects_limit = 0`
  await session.run('DROP TABLE IF EXISTS csv_rejects; DROP TABLE IF EXISTS csv_scans')
  try {
    await session.rows(`SELECT count(*) FROM ${csvFrom(chunk.format, chunk.file, plan.maxRecordBytes, more)}`)
  } catch (error) {
    if (error instanceof AdflowError && error.code !== 'ENGINE_FAILED') throw error
    return [] // the reader cannot even say where: isolate() finds it
  }
  const rejects = await session.rows('SELECT DISTINCT line_byte_position - 1 AS at FROM csv_rejects ORDER BY 1')
  if (rejects.length === 0) return []
  const starts = new Set(rejects.map((row) => Number(row['at'])))
  const places = await chunk.locate(Array.from({ length: chunk.records }, (_, index) => index))
  // In the file every record ends with one LF, and nothing else stands between records.
  let at = 0
  return places.flatMap(({ byteFrom, byteTo }, ordinal) => {
    const start = at
    at += byteTo - byteFrom + 1
    return starts.has(start) ? [ordinal] : []
  })
}

async function withoutDamaged(
  chunk: Chunk,
  removed: readonly number[],
  context: AdmitContext,
  integers?: Chunk['integers'],
): Promise<RawSource> {
  if (removed.length === 0) return sourceOf(chunk, chunk.file, context, { integers })
  const file = join(context.folder, `clean-${context.session.id}.txt`)
  const spans = await (chunk.spans?.(removed) ?? spansOf(chunk.file, splitterOf(chunk), removed))
  await copyWithout(chunk.file, spans, file)
  return sourceOf(chunk, file, context, { integers })
}

function splitterOf({ format }: Chunk): Splitter {
  return format.type === 'csv' ? csvSplitter(format) : lines
}

/** Records as they stand in the chunk's file. */
function stored(chunk: Chunk, ordinals: readonly number[]): Promise<Buffer[]> {
  return (chunk.stored ?? chunk.raw)(ordinals)
}

/** One file per session: the next one overwrites it. */
async function rewrite(records: readonly Buffer[], name: string, { folder, session }: AdmitContext): Promise<string> {
  const file = join(folder, `${name}-${session.id}.txt`)
  const newline = Buffer.from('\n')
  await writeFile(file, Buffer.concat(records.flatMap((record) => [record, newline])))
  return file
}

/** Halves the chunk until the records that make the reader fail stand alone: for damage that no query of ours foresaw. */
async function isolate(chunk: Chunk, context: AdmitContext): Promise<number[]> {
  const records = await stored(
    chunk,
    Array.from({ length: chunk.records }, (_, index) => index),
  )
  const bad: number[] = []
  const reads = async (from: number, to: number): Promise<boolean> => {
    const source = await sourceOf(chunk, await rewrite(records.slice(from, to), 'part', context), context)
    try {
      // A table, not a count: for a count the engine would not read the columns.
      await context.session.run(`CREATE OR REPLACE TEMP TABLE isolated AS ${tableSql(context.plan, source, true)}`)
      return Number(await context.session.value('SELECT count(*) FROM isolated')) === to - from
    } catch (error) {
      if (error instanceof AdflowError && error.code !== 'ENGINE_FAILED') throw error
      return false
    }
  }
  const search = async (from: number, to: number): Promise<void> => {
    if (from === to || (await reads(from, to))) return
    if (to - from === 1) {
      bad.push(from)
      return
    }
    const middle = (from + to) >> 1
    await search(from, middle)
    await search(middle, to)
  }
  await search(0, records.length)
  return bad
}

/** `null` in the place of an object reads as a row of NULLs. Without this it would be a record or none, after its neighbours. */
async function nullRecords(
  chunk: Chunk,
  table: string,
  removed: readonly number[],
  { session, plan }: AdmitContext,
): Promise<number[]> {
  if (chunk.format.type !== 'ndjson') return []
  const empty = plan.columns.map((column) => `${ident(column.name)} IS NULL`).join(' AND ')
  const rows = await session.rows(`SELECT rowid::INTEGER AS r FROM ${ident(table)} WHERE ${empty} ORDER BY 1`)
  if (rows.length === 0) return []
  const ordinals = toOrdinals(
    rows.map((row) => Number(row['r'])),
    removed,
  )
  const records = await stored(chunk, ordinals)
  return ordinals.filter((_, index) => records[index]?.toString('latin1').trim() === 'null')
}

function union(a: Iterable<number>, b: readonly number[]): number[] {
  return [...new Set([...a, ...b])].sort((x, y) => x - y)
}

/** Under `discard_row` and `freeze`: records with fields that the contract does not name. */
async function strangeRecords(chunk: Chunk, context: AdmitContext): Promise<Map<number, readonly string[]>> {
  const { unknown } = context.plan
  if (unknown !== 'discard_row' && unknown !== 'freeze') return new Map()
  const fields = await unknownFields(chunk, context)
  if (fields.length === 0) return new Map()
  if (unknown === 'freeze')
    throw new AdflowError(
      'DATA_REJECTED',
      `${chunk.range.lane} [${chunk.range.from}, ${chunk.range.to}) has fields that the contract does not name: ${fields.slice(0, 10).join(', ')}`,
      {
        hint: 'the contract says `unknown: freeze`: add the fields to contract.columns or relax it; nothing of this range was loaded',
      },
    )
  if (chunk.format.type !== 'ndjson')
    return new Map(Array.from({ length: chunk.records }, (_, ordinal) => [ordinal, fields]))
  const rows = await context.session.rows(strangeJsonSql(context.plan, chunk.file))
  return new Map(rows.map((row) => [Number(row['ord']), row['fields'] as string[]]))
}

function strangeFailures(strange: ReadonlyMap<number, readonly string[]>): Rejected[] {
  return [...strange].map(([ordinal, fields]) => ({
    ordinal,
    failures: fields.map((field) => ({
      rule: CONTRACT_RULES.unknown,
      field,
      reason: 'the contract does not name this field',
    })),
  }))
}

async function malformed(chunk: Chunk, ordinals: readonly number[], { plan }: AdmitContext): Promise<Rejected[]> {
  if (ordinals.length === 0) return []
  const raws = await chunk.raw(ordinals)
  return ordinals.map((ordinal, index) => {
    const found = malformation(raws[index] ?? Buffer.alloc(0), chunk.format, plan.columns)
    return { ordinal, failures: [{ rule: CONTRACT_RULES.malformed, ...found }] }
  })
}

/** Asks every rule of the rows that failed one, on a small file of just these records. */
async function forensics(
  chunk: Chunk,
  rowids: readonly number[],
  removed: readonly number[],
  context: AdmitContext,
): Promise<Rejected[]> {
  if (rowids.length === 0) return []
  const ordinals = toOrdinals(rowids, removed)
  const source =
    chunk.format.type === 'parquet'
      ? await sourceOf(chunk, chunk.file, context, { only: ordinals })
      : await sourceOf(chunk, await rewrite(await stored(chunk, ordinals), 'failed', context), context)
  const rows = await context.session.rows(forensicSql(context.plan, source))
  return ordinals.map((ordinal, index) => {
    const failures = (rows[index]?.['failures'] ?? []) as Failure[]
    return {
      ordinal,
      row: rowids[index] as number,
      failures:
        failures.length > 0
          ? failures
          : [{ rule: CONTRACT_RULES.type, field: null, reason: 'does not fit the contract' }],
    }
  })
}

async function explain(
  chunk: Chunk,
  sql: string,
  rows: number | undefined,
  removed: readonly number[],
  session: Session,
): Promise<never> {
  if (rows === undefined)
    await session.run(`CREATE OR REPLACE TEMP TABLE explained AS ${sql}`).catch((error: unknown) => {
      throw sourceFault(chunk, error) ?? error
    })
  throw new AdflowError(
    'UNACCOUNTED',
    `read ${chunk.range.lane} [${chunk.range.from}, ${chunk.range.to}): the extractor counts ${chunk.records} records, the engine ${rows} and ${removed.length} damaged`,
    { hint: 'nothing of this range was loaded; please report the range with its bytes' },
  )
}

/** Fields of the source that the contract does not name. */
export async function unknownFields(chunk: Chunk, { session, plan }: AdmitContext): Promise<string[]> {
  const known = new Set(plan.columns.map((column) => column.from.toLowerCase()))
  if (chunk.format.type === 'csv') return chunk.format.header.filter((name) => !known.has(name.toLowerCase()))
  if (chunk.format.type === 'parquet') {
    const columns = await session.describe(`SELECT * FROM read_parquet(${literal(chunk.file)})`)
    return columns.map(({ name }) => name).filter((name) => !known.has(name.toLowerCase()))
  }
  const roots = rootKeys(plan).map(literal).join(', ')
  const rows = await session.rows(
    `SELECT DISTINCT k FROM (SELECT unnest(json_keys(json)) AS k FROM read_ndjson_objects(${literal(chunk.file)}, ignore_errors = true, maximum_object_size = ${plan.maxRecordBytes})) WHERE k NOT IN (${roots}) ORDER BY k`,
  )
  return rows.map((row) => String(row['k']))
}
