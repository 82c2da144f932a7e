/** Expected rows against the rows that came, whatever their order; the engine reads the expected ones in the columns' types. */
import { Readable } from 'node:stream'
import type { Chunk, Column } from '../core/contracts.ts'
import type { TestRow } from '../core/job/job.ts'
import { didYouMean } from '../core/job/suggest.ts'
import { admit } from '../engine/admit.ts'
import { exactJson } from '../engine/exact-json.ts'
import type { ReadPlan } from '../engine/read-plan.ts'
import type { Session } from '../engine/session.ts'
import { ident } from '../engine/sql-text.ts'
import { resolveType, type TypeTree } from '../engine/types.ts'
import { pair } from './pairing.ts'
import { streamChunks } from './stream-chunks.ts'

export interface Comparison {
  readonly session: Session
  /** Folder for files, engine-readable. */
  readonly folder: string
  readonly maxRecordBytes: number
  /** SQL name of the table of the rows that came, and its columns. */
  readonly table: string
  readonly columns: readonly Column[]
}

interface TypedColumn {
  readonly name: string
  readonly type: TypeTree
}

/** Column → value as JSON text. */
type Shown = Readonly<Record<string, string>>

const EXPECTED = 'expected_rows'
/** Rows of one kind that are listed; the rest is counted. */
const LISTED = 20

/** What differs, in lines for people; empty: nothing. Each expected row is compared on the columns that it names. */
export async function compareRows(expected: readonly TestRow[], comparison: Comparison): Promise<string[]> {
  const { session, table } = comparison
  const known = new Map(comparison.columns.map((column) => [column.name.toLowerCase(), column]))
  const names = [...new Set(expected.flatMap((row) => Object.keys(row).map((name) => name.toLowerCase())))]
  const strangers = names.filter((name) => !known.has(name))
  if (strangers.length > 0) return strangers.map((name) => unknownColumn(name, comparison.columns))
  const columns: TypedColumn[] = []
  for (const { name, type } of names.length === 0 ? comparison.columns : names.flatMap((name) => known.get(name) ?? []))
    columns.push({ name, type: await resolveType(session, type) })

  const unfit = await readExpected(expected, columns, comparison)
  if (unfit.length > 0) return unfit
  const wanted = (await shownRows(session, columns, EXPECTED)).map((row, index) => named(row, expected[index] ?? {}))
  const came = await shownRows(session, columns, table)
  const pairs = pair(wanted, came, covers)
  const taken = new Set(pairs.values())
  const missing = wanted.filter((_, index) => !pairs.has(index))
  const extra = came.filter((_, index) => !taken.has(index))
  if (missing.length === 0 && extra.length === 0) return []
  return [`expected ${rowCount(wanted.length)}, got ${came.length}`, ...differences(missing, extra)]
}

/** The columns that the row of the job file names. */
function named(row: Shown, expected: TestRow): Shown {
  const names = new Set(Object.keys(expected).map((name) => name.toLowerCase()))
  return Object.fromEntries(Object.entries(row).filter(([name]) => names.has(name.toLowerCase())))
}

function covers(wanted: Shown, came: Shown): boolean {
  return Object.entries(wanted).every(([name, text]) => came[name] === text)
}

/** Fills the table of expected rows. Returns what does not fit the columns. */
async function readExpected(
  expected: readonly TestRow[],
  columns: readonly TypedColumn[],
  comparison: Comparison,
): Promise<string[]> {
  const { session, folder, maxRecordBytes } = comparison
  const fields = columns.map(({ name, type }) => `NULL::${type.sql} AS ${ident(name)}`)
  await session.run(`CREATE OR REPLACE TEMP TABLE ${EXPECTED} AS SELECT ${fields.join(', ')} LIMIT 0`)
  if (expected.length === 0) return []
  const plan: ReadPlan = {
    columns: columns.map(({ name, type }) => ({ name, type, required: false, from: name })),
    rules: [],
    unknown: 'discard_value',
    maxRecordBytes,
  }
  const own = new Map(columns.map(({ name }) => [name.toLowerCase(), name]))
  const lines = expected.map((row) =>
    jsonText(Object.fromEntries(Object.entries(row).map(([key, value]) => [own.get(key.toLowerCase()) ?? key, value]))),
  )
  const problems: string[] = []
  for await (const chunk of rowChunks(lines, 'expected', folder, maxRecordBytes)) {
    const { rejected } = await admit(chunk, EXPECTED, { session, plan, folder, expectDamage: false })
    for (const { ordinal, failures } of rejected)
      for (const { field, reason } of failures)
        problems.push(
          `expected row ${ordinal + 1} does not fit the columns: ${field === null ? '' : `${field}: `}${reason}`,
        )
    await chunk.release()
  }
  return problems
}

/** Lines as one chunk; none where there are no lines. */
export function rowChunks(
  lines: readonly string[],
  name: string,
  folder: string,
  maxRecordBytes: number,
): AsyncGenerator<Chunk> {
  const stream = Readable.from(lines.map((line) => Buffer.from(`${line}\n`)))
  return streamChunks(stream, { name, folder, maxRecordBytes, chunkBytes: Number.MAX_SAFE_INTEGER / 2 })
}

/** JSON of a value of a job file: integers beyond 2^53 are bigint there. */
export function jsonText(value: unknown): string {
  if (typeof value === 'bigint') return String(value)
  if (Array.isArray(value)) return `[${value.map(jsonText).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null'
  return `{${Object.entries(value)
    .map(([key, inner]) => `${JSON.stringify(key)}:${jsonText(inner)}`)
    .join(',')}}`
}

/** Every value as its exact JSON text. JSON itself without the white space that says nothing. */
async function shownRows(session: Session, columns: readonly TypedColumn[], table: string): Promise<Shown[]> {
  const texts = columns.map(({ name, type }) => {
    const value = type.kind === 'json' ? `json(${ident(name)})` : `to_json(${exactJson(type, ident(name))})::VARCHAR`
    return `coalesce(${value}, 'null') AS ${ident(name)}`
  })
  const rows = await session.rows(`SELECT ${texts.join(', ')} FROM ${table}`)
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, text]) => [name, String(text)])))
}

/** Rows that are nearly alike are shown as one row that differs. */
function differences(missing: readonly Shown[], extra: readonly Shown[]): string[] {
  const left = [...extra]
  const changed: string[] = []
  const gone: string[] = []
  for (const row of missing) {
    const twin = nearest(row, left)
    if (twin === undefined) gone.push(`- missing:      ${rowText(row)}`)
    else {
      left.splice(left.indexOf(twin), 1)
      changed.push(...changedText(row, twin))
    }
  }
  return [...changed, ...short(gone), ...short(left.map((row) => `+ not expected: ${rowText(row)}`))]
}

/** The row with most values in common, half of them at least. */
function nearest(row: Shown, others: readonly Shown[]): Shown | undefined {
  const names = Object.keys(row)
  const common = (other: Shown) => names.filter((name) => row[name] === other[name]).length
  const best = others.toSorted((a, b) => common(b) - common(a))[0]
  return best !== undefined && common(best) > 0 && common(best) * 2 >= names.length ? best : undefined
}

function changedText(row: Shown, twin: Shown): string[] {
  const [same, other] = [true, false].map((equal) =>
    Object.keys(row).filter((name) => (row[name] === twin[name]) === equal),
  )
  const where = Object.fromEntries((same ?? []).slice(0, 4).map((name) => [name, row[name] ?? '']))
  return [
    `~ differs:      ${rowText(where)}`,
    ...(other ?? []).map((name) => `    ${name}: expected ${row[name]}, got ${twin[name]}`),
  ]
}

function rowText(row: Shown): string {
  return `{${Object.entries(row)
    .map(([name, text]) => `${name}: ${text}`)
    .join(', ')}}`
}

function short(lines: string[]): string[] {
  return lines.length <= LISTED ? lines : [...lines.slice(0, LISTED), `  … and ${lines.length - LISTED} more`]
}

function unknownColumn(name: string, columns: readonly Column[]): string {
  const names = columns.map((column) => column.name)
  return `there is no column \`${name}\` here: ${didYouMean(name, names) ?? `columns: ${names.join(', ')}`}`
}

function rowCount(count: number): string {
  return count === 1 ? '1 row' : `${count} rows`
}
