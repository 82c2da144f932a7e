/**
 * State of windows on event time. What is known of the rows of open windows stands in tables of the job's state file, and beside them, for each
 * batch, how far the watermark was before and after it. What a batch gives follows from these alone, so that a repetition gives the same.
 */
import { ROW } from './relation.ts'
import { SEQUENCE } from './sequence.ts'
import { literal } from './sql-text.ts'
import {
  dueSql,
  forgetBatches,
  moveWatermark,
  NOW,
  newestBatch,
  REPEATABLE_BATCHES,
  seenDdl,
  self,
  span,
  unrepeatable,
  type Watermark,
} from './watermark.ts'

/** Of `sizeMs`, one every `everyMs`; the size is a multiple of it. */
export interface FixedWindows {
  readonly kind: 'fixed'
  readonly sizeMs: number
  readonly everyMs: number
}

/** Rows of a group that follow each other within `gapMs`. */
export interface Sessions {
  readonly kind: 'session'
  readonly gapMs: number
}

/** Totals since midnight of the time zone, at the end of each step of `everyMs`, which divides a day. The first group is the day. */
export interface RunningTotals {
  readonly kind: 'running'
  readonly everyMs: number
  readonly timezone: string
}

export type Windows = FixedWindows | Sessions | RunningTotals

export interface WindowState extends Omit<Watermark, 'seen'> {
  readonly tables: {
    readonly rows: string
    /** To what the rows of batches that cannot come again were put together; `__round` tells when. */
    readonly settled: string
    readonly seen: string
  }
  readonly windows: Windows
  /** Open windows are told of every so often. */
  readonly earlyMs: number | undefined
  /** What makes a group: SQL over a row of the input, and the type. */
  readonly groups: readonly { readonly sql: string; readonly type: string }[]
  readonly kept: readonly KeptColumn[]
  /** `kept` are parts of aggregates: rows of a batch that differ in none of the values are one row. */
  readonly folded: boolean
  /** What comes too late is an output of its own: it is neither kept nor told of as a correction. */
  readonly aside: boolean
}

/** What is kept of a row: under `name`, quoted, and how it is made of a row of the input. */
export interface KeptColumn {
  readonly name: string
  readonly type: string
  readonly make: string
  readonly kind: 'value' | 'measure'
  /** SQL that puts measures together. */
  merge(column: string): string
}

/** When what was put together at so many times is put together itself. */
const MOST_ROUNDS = 50

export function windowDdl({ tables, groups, kept, folded }: WindowState): string[] {
  const columns = [
    ...groups.map(({ type }, index) => `__g${index} ${type}`),
    ...kept.map(({ name, type }) => `${name} ${type}`),
    '__at TIMESTAMP',
    '__end TIMESTAMP',
  ]
  const own = ['__late BOOLEAN NOT NULL', '__nth BIGINT NOT NULL', '__seq BIGINT NOT NULL', `${ROW} BIGINT NOT NULL`]
  const shown = [
    '__version BIGINT NOT NULL',
    '__shows BOOLEAN NOT NULL',
    '__shown BIGINT NOT NULL',
    '__shown_at TIMESTAMP',
  ]
  return [
    `CREATE TABLE IF NOT EXISTS ${tables.rows} (${[...columns, ...own].join(', ')})`,
    ...(folded
      ? [`CREATE TABLE IF NOT EXISTS ${tables.settled} (${columns.join(', ')}, __round BIGINT NOT NULL)`]
      : []),
    seenDdl(tables.seen, shown),
  ]
}

/** Takes up the rows of the batch and moves the watermark. */
export function windowMark(state: WindowState, inputTable: string): string[] {
  const { tables, earlyMs } = state
  const { rows, seen } = tables
  const version = `greatest((SELECT coalesce(max(__version), 0) FROM ${seen}) + 1, epoch_us(${NOW}))`
  const shownAt = `(SELECT max(__shown_at) FROM ${seen})`
  const shows = earlyMs === undefined ? 'false' : `coalesce(${NOW} >= ${shownAt} + ${span(earlyMs)}, true)`
  const shown =
    earlyMs === undefined
      ? newestBatch(seen)
      : `(SELECT coalesce(max(CASE WHEN __shows THEN __nth ELSE __shown END), 0) FROM ${seen})`
  const told = [version, shows, shown, `CASE WHEN ${shows} THEN ${NOW} ELSE ${shownAt} END`]
  return [
    `DELETE FROM ${rows} WHERE __seq = ${SEQUENCE}`,
    moveWatermark({ ...state, seen }, inputTable, told),
    `INSERT INTO ${rows} ${takenRows(state, inputTable)}`,
  ]
}

function takenRows(state: WindowState, inputTable: string): string {
  const { tables, windows, groups, kept, folded, aside } = state
  const timed = `SELECT *, ${self(tables.seen, '__before')} AS __before FROM (${timedSql(state, `SELECT * FROM ${inputTable}`)})`
  const where = aside ? ` WHERE __at IS NOT NULL AND NOT ${tooLateSql(windows)}` : ''
  const told = [
    ...groups.map(({ sql }, index) => `${sql} AS __g${index}`),
    ...kept.map(({ name, make, kind }) => (kind === 'value' ? `${make} AS ${name}` : '')).filter(Boolean),
    ...[`${folded ? bucketSql(windows) : '__at'} AS __at`, '__end', `${lateSql(windows)} AS __late`],
  ]
  const rest = [`${self(tables.seen, '__nth')} AS __nth`, `${SEQUENCE} AS __seq`]
  const names = [...groups.map((_, index) => `__g${index}`), ...kept.map(({ name }) => name), '__at', '__end', '__late']
  const from = `FROM (${timed})${where}`
  const measures = kept.filter(({ kind }) => kind === 'measure').map(({ name, make }) => `${make} AS ${name}`)
  const made = folded
    ? `SELECT ${[...told, ...measures, ...rest, `min(${ROW}) AS ${ROW}`].join(', ')} ${from} GROUP BY ${told.map((_, index) => index + 1).join(', ')}`
    : `SELECT ${[...told, ...rest, ROW].join(', ')} ${from}`
  return `SELECT ${[...names, '__nth', '__seq', ROW].join(', ')} FROM (${made})`
}

/** SELECT of the clock at which the next window closes though nothing comes; a session at the earliest, for it may have grown. */
export function windowDue({ tables: { rows, settled, seen }, folded, ...state }: WindowState): string {
  const ends = [rows, ...(folded ? [settled] : [])].map((table) => `SELECT __end FROM ${table}`)
  return dueSql({ ...state, seen }, ends.join(' UNION ALL '))
}

/** SELECT of all that is known up to this batch. */
export function knownRows(state: WindowState): string {
  return `SELECT * FROM (${everKnownRows(state)}) WHERE __nth <= ${self(state.tables.seen, '__nth')}`
}

/** SELECT of all that is known, of later batches, too, by `__nth`: what was put together has 0. */
export function everKnownRows({ tables: { rows, settled }, folded }: WindowState): string {
  const recent = `SELECT * FROM ${rows}`
  return folded
    ? `${recent} UNION ALL BY NAME SELECT * EXCLUDE (__round), false AS __late, 0 AS __nth FROM ${settled}`
    : recent
}

/** The rows with the start and the end of their session. */
export function sessionsOf(from: string, keys: readonly string[], gapMs: number): string {
  const by = keys.length === 0 ? '' : `PARTITION BY ${keys.join(', ')}`
  const order = `${by} ORDER BY __at, __nth, ${ROW}`
  const begins = `SELECT *, coalesce(__at - lag(__at) OVER (${order}) > ${span(gapMs)}, true)::INTEGER AS __begins FROM (${from})`
  const counted = `SELECT *, sum(__begins) OVER (${order} ROWS UNBOUNDED PRECEDING) AS __session FROM (${begins})`
  const session = `PARTITION BY ${[...keys, '__session'].join(', ')}`
  return `SELECT * EXCLUDE (__begins, __session), min(__at) OVER (${session}) AS __w, max(__at) OVER (${session}) + ${span(gapMs)} AS __w_end FROM (${counted})`
}

export function keysOf({ groups }: WindowState): string[] {
  return groups.map((_, index) => `__g${index}`)
}

/** Rows whose windows had closed before the oldest batch that may be repeated, and what is known of batches before it. */
export function windowSweep(state: WindowState): string[] {
  const { tables, windows, folded } = state
  const { rows, settled, seen } = tables
  const { old, closed } = unrepeatable(seen)
  const over = (): string => {
    if (windows.kind === 'fixed') return `__end <= ${closed}`
    if (windows.kind === 'running') return beforeSql(windows, '__g0', closed)
    const open = `SELECT *, rowid AS __id FROM ${rows} WHERE NOT __late AND __at IS NOT NULL`
    return `rowid IN (SELECT __id FROM (${sessionsOf(open, keysOf(state), windows.gapMs)}) WHERE __w_end <= ${closed})`
  }
  const goes = windows.kind === 'running' ? over() : `(__at IS NULL OR __late OR ${over()})`
  return [
    `DELETE FROM ${rows} WHERE ${old} AND ${goes}`,
    ...(folded ? [`DELETE FROM ${settled} WHERE ${over()}`, ...settle(state)] : []),
    forgetBatches(seen),
  ]
}

/** Puts the rows of batches that cannot come again together, except those by which open windows are yet to be told of. */
function settle(state: WindowState): string[] {
  const { kept, tables } = state
  const { rows, settled, seen } = tables
  const nth = `(SELECT max(__nth) FROM ${seen})`
  const untold = `(SELECT min(__shown) FROM ${seen} WHERE __nth > ${nth} - ${REPEATABLE_BATCHES})`
  const old = `__nth <= ${nth} - ${REPEATABLE_BATCHES} AND __nth <= ${untold}`
  const again = `(SELECT count(DISTINCT __round) FROM ${settled}) > ${MOST_ROUNDS}`
  const values = kept.filter(({ kind }) => kind === 'value').map(({ name }) => name)
  const by = [...keysOf(state), ...values, '__at', '__end']
  const items = [
    ...keysOf(state),
    ...kept.map(({ name, kind, merge }) => (kind === 'value' ? name : `${merge(name)} AS ${name}`)),
    ...['__at', '__end'],
  ]
  const together = (from: string) => `SELECT ${items.join(', ')} FROM ${from} GROUP BY ${by.join(', ')}`
  return [
    `INSERT INTO ${settled} SELECT *, ${nth} FROM (${together(`${rows} WHERE ${old}`)})`,
    `DELETE FROM ${rows} WHERE ${old}`,
    `INSERT INTO ${settled} SELECT *, -${nth} FROM (${together(`${settled} WHERE ${again}`)})`,
    `DELETE FROM ${settled} WHERE ${again} AND __round <> -${nth}`,
  ]
}

/** Whether a day is over for good: two midnights of the time zone lie between it and the watermark. */
function beforeSql({ timezone }: RunningTotals, day: string, watermark: string): string {
  return `coalesce(${day} < CASE WHEN isfinite(${watermark}) THEN CAST(${localSql(timezone, watermark)} AS DATE) - 1 END, false)`
}

/** What the clocks of the time zone show at a TIMESTAMP of UTC. */
function localSql(timezone: string, at: string): string {
  return `timezone(${literal(timezone)}, timezone('UTC', ${at}))`
}

export function timedSql({ time, windows }: WindowState, input: string): string {
  return `SELECT *, ${endSql(windows)} AS __end FROM (SELECT *, ${time} AS __at FROM (${input}))`
}

/** Start of what is told apart at the least. */
function bucketSql(windows: Windows): string {
  if (windows.kind === 'session') return '__at'
  if (windows.kind === 'fixed') return `time_bucket(${span(windows.everyMs)}, __at)`
  const every = windows.everyMs * 1000
  return `__at - to_microseconds(((epoch_us(${localSql(windows.timezone, '__at')}) % ${every}) + ${every}) % ${every})`
}

/** End of the last window that a row at `__at` is in, or can be in. */
function endSql(windows: Windows): string {
  if (windows.kind === 'session') return `__at + ${span(windows.gapMs)}`
  return `${bucketSql(windows)} + ${span(windows.kind === 'fixed' ? windows.sizeMs : windows.everyMs)}`
}

/** In no window that is still open. */
function lateSql(windows: Windows): string {
  return `coalesce(${windows.kind === 'session' ? '__at < __before' : '__end <= __before'}, false)`
}

/** Later than anything can be put right by it. Over `__before` beside the row. */
export function tooLateSql(windows: Windows): string {
  return windows.kind === 'running' ? beforeSql(windows, dayOf(windows), '__before') : lateSql(windows)
}

/** The day of a row in the time zone. Over `__at` beside the row. */
export function dayOf({ timezone }: RunningTotals): string {
  return `CAST(${localSql(timezone, '__at')} AS DATE)`
}
