/**
 * SQL of windows on event time. The rows of open windows stand in a table of the job's state file, and beside them, for each batch, how far
 * the watermark was before and after it. What a batch closes follows from these alone, so that a repetition closes the same.
 */
import { ROW } from './relation.ts'
import { LANE, SEQUENCE } from './sequence.ts'

/** Of `sizeMs`, one every `everyMs`; the size is a multiple of it. */
interface FixedWindows {
  readonly kind: 'fixed'
  readonly sizeMs: number
  readonly everyMs: number
}

export type Windows =
  | FixedWindows
  /** Rows of a group that follow each other within `gapMs`. */
  | { readonly kind: 'session'; readonly gapMs: number }

export interface WindowTables {
  readonly rows: string
  readonly seen: string
}

export interface WindowState {
  readonly tables: WindowTables
  readonly windows: Windows
  readonly latenessMs: number
  readonly idleMs: number
  /** Nothing closes before so long after the first batch. */
  readonly settleMs: number
  /** What makes a group: SQL over a row of the input, and the type. */
  readonly groups: readonly { readonly sql: string; readonly type: string }[]
  /** Quoted columns of the input that the aggregates read, with their types. */
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  /** SQL of the event time as TIMESTAMP over a row of the input; NULL where it has none. */
  readonly time: string
  /** What comes too late is an output of its own: it is neither kept nor told of as a correction. */
  readonly aside: boolean
}

/** The newest batches may be repeated: what they were decided by is kept as it was. */
const REPEATABLE_BATCHES = 100
/** Sessions are looked through for what can go only in every so many batches. */
const SWEEP_BATCHES = 50

export function windowDdl({ tables, groups, columns }: WindowState): string[] {
  const kept = [
    ...groups.map(({ type }, index) => `__g${index} ${type}`),
    ...columns.map(({ name, type }) => `${name} ${type}`),
  ]
  return [
    `CREATE TABLE IF NOT EXISTS ${tables.rows} (${[...kept, '__at TIMESTAMP', '__end TIMESTAMP', '__late BOOLEAN NOT NULL', '__nth BIGINT NOT NULL', '__seq BIGINT NOT NULL', `${ROW} BIGINT NOT NULL`].join(', ')})`,
    `CREATE TABLE IF NOT EXISTS ${tables.seen} (__seq BIGINT NOT NULL, __nth BIGINT NOT NULL, __lane VARCHAR NOT NULL, __lane_at TIMESTAMP, __clock TIMESTAMP NOT NULL, __before TIMESTAMP NOT NULL, __after TIMESTAMP NOT NULL)`,
  ]
}

/** Takes up the rows of the batch and moves the watermark: it is `lateness` behind the lane that is furthest behind. No event moves it beyond
 *  the batch's clock, and a lane of which nothing has come for so long does not hold it. */
export function windowMark(state: WindowState, inputTable: string): string[] {
  const { tables, groups, columns, time, windows } = state
  const { rows, seen } = tables
  const now = 'now()::TIMESTAMP'
  const newest = `(SELECT coalesce(max(__nth), 0) FROM ${seen})`
  const before = `(SELECT coalesce(max(__after), TIMESTAMP '-infinity') FROM ${seen})`
  const mine = `greatest((SELECT max(__lane_at) FROM ${seen} WHERE __lane = ${LANE}), (SELECT least(max(${time}), ${now}) FROM ${inputTable}))`
  const others = `SELECT max(__lane_at) AS reached FROM ${seen} WHERE __lane <> ${LANE} GROUP BY __lane HAVING max(__clock) >= ${now} - ${span(state.idleMs)}`
  const reached = `(SELECT min(reached) FROM (SELECT ${mine} AS reached UNION ALL ${others}))`
  const begun = `(SELECT coalesce(min(__clock), ${now}) FROM ${seen})`
  const held = `${before} = TIMESTAMP '-infinity' AND ${now} < ${begun} + ${span(state.settleMs)}`
  const taken = [
    ...groups.map(({ sql }) => sql),
    ...columns.map(({ name }) => name),
    ...['__at', '__end', `coalesce(${lateSql(windows)}, false)`, self(seen, '__nth'), SEQUENCE, ROW],
  ]
  const timed = `SELECT *, ${self(seen, '__before')} AS __before FROM (${timedSql(state, `SELECT * FROM ${inputTable}`)})`
  const kept = state.aside ? ` WHERE __at IS NOT NULL AND NOT (${lateSql(windows)})` : ''
  return [
    `DELETE FROM ${rows} WHERE __seq = ${SEQUENCE}`,
    `INSERT INTO ${seen} SELECT ${SEQUENCE}, ${newest} + 1, ${LANE}, ${mine}, ${now}, ${before}, greatest(${before}, CASE WHEN NOT (${held}) THEN ${reached} - ${span(state.latenessMs)} END) WHERE NOT EXISTS (SELECT 1 FROM ${seen} WHERE __seq = ${SEQUENCE})`,
    `INSERT INTO ${rows} SELECT ${taken.join(', ')} FROM (${timed})${kept}`,
    ...sweep(state),
  ]
}

/** SELECT of the rows whose windows the batch closes, or has missed: groups, columns, `__w` and `__w_end`, `__correction`. */
export function closedRows(state: WindowState): string {
  const { windows, tables } = state
  return windows.kind === 'fixed' ? closedFixed(state, windows) : closedSessions(state, windows, tables)
}

function closedFixed({ tables, aside }: WindowState, windows: FixedWindows): string {
  const { rows, seen } = tables
  const [nth, before, after] = [self(seen, '__nth'), self(seen, '__before'), self(seen, '__after')]
  const of = (where: string) => inWindows(windows, `SELECT * FROM ${rows} WHERE ${where}`)
  const closed = `SELECT *, false AS __correction FROM (${of(`__nth <= ${nth} AND __end > ${before} AND __at < ${after}`)}) WHERE __w_end > ${before} AND __w_end <= ${after}`
  if (aside) return closed
  const missed = `SELECT *, true AS __correction FROM (${of(`__seq = ${SEQUENCE} AND __at IS NOT NULL`)}) WHERE __w_end <= ${before}`
  return [closed, missed, untimed(rows)].join(' UNION ALL BY NAME ')
}

/** The rows once for each window that they are in, with its start and end. */
function inWindows({ sizeMs, everyMs }: FixedWindows, from: string): string {
  const first = `time_bucket(${span(everyMs)}, __at)`
  const starts =
    sizeMs === everyMs
      ? first
      : `unnest(list_transform(range(${sizeMs / everyMs}), lambda __i: ${first} - __i * ${span(everyMs)}))`
  return `SELECT *, __w + ${span(sizeMs)} AS __w_end FROM (SELECT *, ${starts} AS __w FROM (${from}))`
}

/** SELECT of the rows of `input` once for each window that they have missed, with ROW, `__w` and `__w_end`: NULL where a row has no time, and
 *  of sessions, of which nobody knows which it would have been. */
export function lateRows(state: WindowState, input: string): string {
  const { windows, tables } = state
  const before = self(tables.seen, '__before')
  const of = (where: string) => `SELECT * FROM (${timedSql(state, input)}) WHERE ${where}`
  if (windows.kind === 'session') return inNoWindow(of(`__at IS NULL OR __at < ${before}`))
  const missed = `SELECT * FROM (${inWindows(windows, of('__at IS NOT NULL'))}) WHERE __w_end <= ${before}`
  return `${missed} UNION ALL BY NAME ${inNoWindow(of('__at IS NULL'))}`
}

/** Sessions of the groups of which one may close now. */
function closedSessions(
  { groups, aside }: WindowState,
  { gapMs }: Extract<Windows, { kind: 'session' }>,
  { rows, seen }: WindowTables,
): string {
  const [nth, before, after] = [self(seen, '__nth'), self(seen, '__before'), self(seen, '__after')]
  const keys = groups.map((_, index) => `__g${index}`)
  const same = keys.map((key) => `__t.${key} IS NOT DISTINCT FROM __c.${key}`).join(' AND ') || 'true'
  const known = `SELECT * FROM ${rows} WHERE __nth <= ${nth} AND NOT __late AND __at IS NOT NULL`
  const closing = `SELECT DISTINCT ${['1 AS __one', ...keys].join(', ')} FROM (${known}) WHERE __end > ${before} AND __end <= ${after}`
  const touched = `SELECT __t.* FROM (${known}) __t SEMI JOIN (${closing}) __c ON ${same}`
  const sessions = (from: string) => sessionsOf(from, keys, gapMs)
  const closed = `SELECT *, false AS __correction FROM (${sessions(touched)}) WHERE __w_end > ${before} AND __w_end <= ${after}`
  if (aside) return closed
  const missed = `SELECT *, true AS __correction FROM (${sessions(`SELECT * FROM ${rows} WHERE __seq = ${SEQUENCE} AND __late`)})`
  return [closed, missed, untimed(rows)].join(' UNION ALL BY NAME ')
}

/** The rows with the start and the end of their session. */
function sessionsOf(from: string, keys: readonly string[], gapMs: number): string {
  const by = keys.length === 0 ? '' : `PARTITION BY ${keys.join(', ')}`
  const order = `${by} ORDER BY __at, __nth, ${ROW}`
  const begins = `SELECT *, coalesce(__at - lag(__at) OVER (${order}) > ${span(gapMs)}, true)::INTEGER AS __begins FROM (${from})`
  const counted = `SELECT *, sum(__begins) OVER (${order} ROWS UNBOUNDED PRECEDING) AS __session FROM (${begins})`
  const session = `PARTITION BY ${[...keys, '__session'].join(', ')}`
  return `SELECT * EXCLUDE (__begins, __session), min(__at) OVER (${session}) AS __w, max(__at) OVER (${session}) + ${span(gapMs)} AS __w_end FROM (${counted})`
}

/** A row without a time is in no window, and is told of at once. */
function untimed(rows: string): string {
  return `SELECT *, true AS __correction FROM (${inNoWindow(`SELECT * FROM ${rows} WHERE __seq = ${SEQUENCE} AND __at IS NULL`)})`
}

function inNoWindow(from: string): string {
  return `SELECT *, NULL::TIMESTAMP AS __w, NULL::TIMESTAMP AS __w_end FROM (${from})`
}

/** Rows whose windows had closed before the oldest batch that may be repeated, and what is known of batches before it. */
function sweep({ tables, windows, groups }: WindowState): string[] {
  const { rows, seen } = tables
  const old = `__nth <= (SELECT max(__nth) FROM ${seen}) - ${REPEATABLE_BATCHES}`
  const closed = `(SELECT min(__before) FROM ${seen} WHERE NOT ${old})`
  const keys = groups.map((_, index) => `__g${index}`)
  const due = `(SELECT max(__nth) FROM ${seen}) % ${SWEEP_BATCHES} = 0`
  const goes =
    windows.kind === 'fixed'
      ? `__end <= ${closed}`
      : `rowid IN (SELECT __id FROM (${sessionsOf(`SELECT *, rowid AS __id FROM ${rows} WHERE NOT __late AND __at IS NOT NULL AND ${due}`, keys, windows.gapMs)}) WHERE __w_end <= ${closed})`
  return [
    `DELETE FROM ${rows} WHERE ${old} AND (__at IS NULL OR __late OR ${goes})`,
    `DELETE FROM ${seen} WHERE ${old} AND __nth > (SELECT min(__nth) FROM ${seen}) AND __nth < (SELECT max(__nth) FROM ${seen} AS __s WHERE __s.__lane = ${seen.split('.').at(-1)}.__lane AND __s.${old})`,
  ]
}

function timedSql({ time, windows }: WindowState, input: string): string {
  return `SELECT *, ${endSql(windows)} AS __end FROM (SELECT *, ${time} AS __at FROM (${input}))`
}

/** End of the last window that a row at `__at` is in, or can be in. */
function endSql(windows: Windows): string {
  if (windows.kind === 'session') return `__at + ${span(windows.gapMs)}`
  return `time_bucket(${span(windows.everyMs)}, __at) + ${span(windows.sizeMs)}`
}

/** In no window that is still open. */
function lateSql(windows: Windows): string {
  return windows.kind === 'session' ? '__at < __before' : '__end <= __before'
}

function self(seen: string, column: string): string {
  return `(SELECT ${column} FROM ${seen} WHERE __seq = ${SEQUENCE})`
}

/** An INTERVAL literal takes at most 2^31: 24 days in milliseconds. */
function span(ms: number): string {
  return `to_microseconds(${ms * 1000})`
}
