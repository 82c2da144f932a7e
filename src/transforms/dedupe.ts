import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import { identifier } from '../core/job/identifier.ts'
import { duration } from '../core/job/units.ts'
import type { CompiledStep, StepEnv } from '../core/step-contract.ts'
import { ROW, restrict } from '../engine/relation.ts'
import { SEQUENCE } from '../engine/sequence.ts'
import { ident } from '../engine/sql-text.ts'
import { invalidStep, requireColumn, union } from '../engine/step-columns.ts'

const MAX_WITHIN_MS = 100 * 365 * 86_400_000

const span = duration.refine((ms) => ms <= MAX_WITHIN_MS, 'at most 100 years')

export default defineStep({
  summary: 'Keeps the first record of each key, over all batches.',
  description: [
    'A record is a duplicate when an earlier record of the same key was kept: earlier in its batch, or in another batch. With `within` only when their times lie at most so far apart, in either direction. Records with NULL in the key or in the time are never duplicates.',
    'Kept keys are marked in the state of the job, with the number of the batch: a batch that is repeated after a crash finds its own marks and gives the same rows again.',
    'With `within` a mark counts until it lies more than `within` + `lateness` behind the time that earlier batches have reached (the median of a batch, at most its clock, so that one record from the future forgets nothing); then it is deleted. Within that reach the result is exact; a duplicate that comes later than `lateness` may pass. Without `within` every key is kept for ever.',
    'A record that a later step sends to quarantine keeps its mark. Another key, or another type of a key column, starts with an empty memory.',
  ].join('\n\n'),
  options: z
    .strictObject({
      id: identifier.optional().describe('Name of the step; the state goes by it.'),
      key: z.array(z.string().min(1)).min(1).describe('Columns that together tell records apart.'),
      within: span.optional().describe('Records of one key that lie further apart than this are different ones.'),
      time: z.string().min(1).optional().describe('Timestamp or date column; needed with `within`.'),
      lateness: span
        .optional()
        .describe(
          'How far records may arrive behind the others and still be recognised. Default: the same as `within`.',
        ),
    })
    .refine(({ within, time }) => (within === undefined) === (time === undefined), {
      error: '`within` and `time` go together: say both or neither',
      path: ['within'],
    })
    .refine(({ within, lateness }) => within !== undefined || lateness === undefined, {
      error: '`lateness` needs `within`',
      path: ['lateness'],
    })
    .describe('The key, and how long it is remembered.'),
  example: { key: ['event_id'], within: '7d', time: 'event_time' },
  sample: {
    columns: { event_id: 'BIGINT', event_time: 'TIMESTAMP' },
    rows: [
      { event_id: 1, event_time: '2026-03-01 10:00:00' },
      { event_id: 1, event_time: '2026-03-01 10:00:00' },
      { event_id: 2, event_time: '2026-03-01 10:00:01' },
      { event_id: 1, event_time: '2026-03-08 10:00:01' },
      { event_id: null, event_time: '2026-03-01 10:00:00' },
    ],
    expect: [
      { event_id: 1, event_time: '2026-03-01 10:00:00' },
      { event_id: 2, event_time: '2026-03-01 10:00:01' },
      { event_id: 1, event_time: '2026-03-08 10:00:01' },
      { event_id: null, event_time: '2026-03-01 10:00:00' },
    ],
  },
  async compile(options, input: Relation, env: StepEnv): Promise<CompiledStep> {
    const keys = options.key.map((name, index) => requireColumn(input, name, [...env.path, 'key', index]))
    if (new Set(keys).size < keys.length) throw invalidStep('a key column is named twice', [...env.path, 'key'])
    const { within, time, lateness = within } = options
    const window =
      within === undefined || time === undefined || lateness === undefined
        ? undefined
        : { column: timeColumn(input, time, [...env.path, 'time']), withinMs: within, keptMs: within + lateness }
    const marks = marksOf(env.id, keys, window)
    const kept = `(NOT ${marks.markable} OR ${ROW} IN (SELECT ${ROW} FROM ${ownMarks(marks)}))`
    return {
      output: restrict(input, kept),
      kind: 'row',
      key: keys.map(({ name }) => name),
      expressions: [],
      lineage: { decides: { by: 'filter', columns: union(keys.map(({ from }) => from)) } },
      drops: { as: 'deduplicated', sql: `SELECT ${ROW} FROM (${input.sql}) WHERE NOT ${kept}` },
      state: {
        tables: marks.tables,
        mark: (inputTable) =>
          window === undefined ? markFirst(marks, inputTable) : markWithin(marks, window, inputTable),
        ...(window === undefined ? {} : { sweep: forgetOld(marks) }),
        bytesPerRow: bytesPerMark(keys),
        bounded: window !== undefined,
        ...(window === undefined ? {} : { keptMs: window.keptMs }),
      },
    }
  },
})

interface Window {
  readonly column: Column
  readonly withinMs: number
  /** How far behind the reached time marks are deleted. */
  readonly keptMs: number
}

interface Marks {
  readonly table: string
  /** Temp table: the marks of keys that the batch has. */
  readonly found: string
  /** The newest batches in their order: from where on marks counted for each, and the time that was reached with it. */
  readonly seen: string
  /** The marks count for a time only, and each has the number of its batch in the order of batches. */
  readonly numbered: boolean
  /** DDL of both. */
  readonly tables: readonly string[]
  readonly keys: readonly string[]
  /** SQL: can this row be a duplicate at all? */
  readonly markable: string
}

/** The newest batches may be repeated: what they were decided by is kept as it was. */
const REPEATABLE_BATCHES = 100

function timeColumn(input: Relation, name: string, path: StepEnv['path']): Column {
  const column = requireColumn(input, name, path)
  if (!/^(TIMESTAMP|DATE)/.test(column.type))
    throw invalidStep(`time needs a timestamp or a date; ${column.name} is ${column.type}`, path)
  return column
}

function marksOf(id: string, keys: readonly Column[], window: Window | undefined): Marks {
  const definition = [...keys.map(({ name, type }) => `${name} ${type}`), window === undefined ? '' : 'within']
  const version = createHash('sha256').update(JSON.stringify(definition)).digest('hex').slice(0, 8)
  const table = `state.${ident(`dedupe_${id}_${version}`)}`
  const seen = `state.${ident(`dedupe_${id}_${version}_seen`)}`
  const columns = keys.map(({ name, type }) => `${ident(name)} ${type}`)
  const own = `__seq BIGINT NOT NULL, ${ROW} BIGINT NOT NULL`
  const notNull = keys.map(({ name }) => `${ident(name)} IS NOT NULL`)
  if (window !== undefined) notNull.push(`coalesce(${timeSql(window)} ${SANE}, false)`)
  return {
    table,
    found: ident(`found_${id}_${version}`),
    seen,
    numbered: window !== undefined,
    tables:
      window === undefined
        ? [`CREATE TABLE IF NOT EXISTS ${table} (${columns.join(', ')}, ${own})`]
        : [
            `CREATE TABLE IF NOT EXISTS ${table} (${columns.join(', ')}, __at TIMESTAMP NOT NULL, __nth BIGINT NOT NULL, ${own})`,
            `CREATE TABLE IF NOT EXISTS ${seen} (__seq BIGINT NOT NULL, __nth BIGINT NOT NULL, __from TIMESTAMP, __reached TIMESTAMP)`,
          ],
    keys: keys.map(({ name }) => ident(name)),
    markable: `(${notNull.join(' AND ')})`,
  }
}

/** Nearer to the ends of the calendar adding `within` would overflow and stop the batch. */
const SANE = `BETWEEN TIMESTAMP '0001-01-01 00:00:00' AND TIMESTAMP '9999-12-31 23:59:59.999999'`

function timeSql({ column }: Window): string {
  return `TRY_CAST(${ident(column.name)} AS TIMESTAMP)`
}

/** Those of this batch. Its number keeps the engine from looking through all that is known: numbers rise with the table. */
function ownMarks({ table, seen, numbered }: Marks): string {
  const own = `${table} WHERE __seq = ${SEQUENCE}`
  return numbered ? `${own} AND __nth = ${noted(seen, '__nth')}` : own
}

/** What is written down of this batch. */
function noted(seen: string, column: string): string {
  return `(SELECT ${column} FROM ${seen} WHERE __seq = ${SEQUENCE})`
}

/** A repeated batch may bring other rows, where the job was mended in between: its marks are always made anew. */
function forgetOwn(table: string): string {
  return `DELETE FROM ${table} WHERE __seq = ${SEQUENCE}`
}

/** First row of each key that no other batch has marked. */
function markFirst({ table, keys, markable }: Marks, inputTable: string): string[] {
  const list = keys.join(', ')
  const first = `SELECT ${list}, min(${ROW}) AS ${ROW} FROM ${inputTable} WHERE ${markable} GROUP BY ${list}`
  return [
    forgetOwn(table),
    `INSERT INTO ${table} SELECT ${list}, ${SEQUENCE}, ${ROW} FROM (${first}) __c WHERE NOT EXISTS (SELECT 1 FROM ${table} __m WHERE ${sameKey(keys)})`,
  ]
}

/**
 * The greedy choice in row order, exactly: first rows against older marks, in bulk; then the rows that neither these nor
 * older marks cover (a key that returns inside one batch), one after the other. Only marks of batches before this one
 * count, from a time on that is fixed when the batch is first seen: a repetition decides by the same marks.
 */
function markWithin(marks: Marks, window: Window, inputTable: string): string[] {
  const { table, found, seen, keys, markable } = marks
  const list = keys.join(', ')
  const rows = `SELECT ${list}, ${timeSql(window)} AS __at, ${ROW} FROM ${inputTable} WHERE ${markable}`
  const self = (column: string) => noted(seen, column)
  const own = `SELECT ${list}, __at FROM ${ownMarks(marks)}`
  const counting = `SELECT ${list}, __at FROM ${found} WHERE __nth < ${self('__nth')} AND __at >= coalesce(${self('__from')}, TIMESTAMP '-infinity')`
  const span = intervalSql(window.withinMs)
  const coveredBy = (from: string) =>
    `EXISTS (SELECT 1 FROM (${from}) __m WHERE ${sameKey(keys)} AND __m.__at >= __c.__at - ${span} AND __m.__at <= __c.__at + ${span})`
  const first = `SELECT ${list}, arg_min(__at, ${ROW}) AS __at, min(${ROW}) AS ${ROW} FROM (${rows}) GROUP BY ${list}`
  const near = `lambda __k: __k['at'] BETWEEN __x[1]['at'] - ${span} AND __x[1]['at'] + ${span}`
  const chosen = `list_reduce(list([{'at': __c.__at, 'row': __c.${ROW}}] ORDER BY __c.${ROW}), lambda __a, __x: CASE WHEN len(list_filter(__a, ${near})) > 0 THEN __a ELSE list_concat(__a, __x) END)`
  // Nearly all rows are first ones: looking these up again would double the work.
  const others = `SELECT * FROM (${rows}) WHERE ${ROW} NOT IN (SELECT ${ROW} FROM ${ownMarks(marks)})`
  const returning = `SELECT ${list}, unnest(${chosen}) AS __kept FROM (${others}) __c WHERE NOT ${coveredBy(`${counting} UNION ALL ${own}`)} GROUP BY ${list}`
  const insert = `INSERT INTO ${table} SELECT ${list}`
  return [
    forgetOwn(table),
    `INSERT INTO ${seen} SELECT ${SEQUENCE}, ${newestOf(seen)} + 1, ${reachedBefore(seen)} - ${intervalSql(window.keptMs)}, greatest(${reachedBefore(seen)}, CASE WHEN count(*) > 0 THEN least(quantile_disc(__at, 0.5), now()::TIMESTAMP) END) FROM (${rows}) HAVING NOT EXISTS ${self('1')}`,
    // All marks are looked at once, for nothing but their keys; what is asked further is asked of the few that are found.
    `CREATE OR REPLACE TEMP TABLE ${found} AS SELECT ${list}, __at, __nth FROM ${table} AS __m SEMI JOIN (SELECT DISTINCT ${list} FROM (${rows})) AS __c ON ${sameKey(keys)}`,
    `${insert}, __at, ${self('__nth')}, ${SEQUENCE}, ${ROW} FROM (${first}) __c WHERE NOT ${coveredBy(counting)}`,
    `${insert}, __kept['at'], ${self('__nth')}, ${SEQUENCE}, __kept['row'] FROM (${returning})`,
  ]
}

/** Marks that count for no batch any more, and what is known of batches that are not repeated. */
function forgetOld({ table, seen }: Marks): string[] {
  const old = `__nth <= ${newestOf(seen)} - ${REPEATABLE_BATCHES}`
  return [
    `DELETE FROM ${table} WHERE ${old} AND __at < (SELECT min(__from) FROM ${seen})`,
    `DELETE FROM ${seen} WHERE ${old}`,
  ]
}

function newestOf(seen: string): string {
  return `(SELECT coalesce(max(__nth), 0) FROM ${seen})`
}

/** An INTERVAL literal takes at most 2^31: 24 days in milliseconds. */
function intervalSql(ms: number): string {
  return `to_microseconds(${ms * 1000})`
}

function reachedBefore(seen: string): string {
  return `(SELECT max(__reached) FROM ${seen})`
}

function sameKey(keys: readonly string[]): string {
  return keys.map((key) => `__m.${key} = __c.${key}`).join(' AND ')
}

const FIXED_BYTES: Readonly<Record<string, number>> = {
  BIGINT: 8,
  INTEGER: 4,
  UUID: 16,
  HUGEINT: 16,
  DATE: 4,
  TIMESTAMP: 8,
}
const TEXT_BYTES = 40
/** Time, batch, row. */
const MARK_BYTES = 32

function bytesPerMark(keys: readonly Column[]): number {
  return keys.reduce((sum, { type }) => sum + (FIXED_BYTES[type] ?? TEXT_BYTES), MARK_BYTES)
}
