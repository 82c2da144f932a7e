/** What a batch gives of windows: those that it closes, those that it changes later, those that it tells of while they are open. */
import { runningRows } from './running-totals.ts'
import { SEQUENCE } from './sequence.ts'
import { self, span } from './watermark.ts'
import {
  everKnownRows,
  type FixedWindows,
  keysOf,
  knownRows,
  type Sessions,
  sessionsOf,
  timedSql,
  tooLateSql,
  type WindowState,
} from './windows.ts'

const OWN_COLUMNS = ['nth', 'before', 'after', 'shows', 'shown']
const OWN = OWN_COLUMNS.map((name) => `__own_${name}`).join(', ')

/** SELECT of the rows of windows that the batch gives: groups, what is kept, `__w` and `__w_end`, `__correction`, `__provisional`. */
export function givenRows(state: WindowState): string {
  const { windows } = state
  if (windows.kind === 'running') return runningRows(state)
  return windows.kind === 'fixed' ? fixedRows(state, windows) : sessionRows(state, windows)
}

function fixedRows(state: WindowState, windows: FixedWindows): string {
  const { tables, aside, earlyMs } = state
  const { rows, seen } = tables
  const before = self(seen, '__before')
  const known = (where: string) =>
    inWindows(
      windows,
      `SELECT __k.*, __own.* FROM (${everKnownRows(state)}) __k, (${ownOf(seen)}) __own WHERE __k.__nth <= __own_nth AND ${where}`,
    )
  const given = [
    `SELECT * EXCLUDE (${OWN}), ${kindOf()} FROM (${known(`__end > __own_before AND __at < __own_after`)}) WHERE __w_end > __own_before AND __w_end <= __own_after`,
  ]
  if (!aside) {
    const late = inWindows(windows, `SELECT * FROM ${rows} WHERE __seq = ${SEQUENCE} AND __at IS NOT NULL`)
    given.push(`SELECT *, ${kindOf({ correction: true })} FROM (${late}) WHERE __w_end <= ${before}`, untimed(rows))
  }
  if (earlyMs !== undefined) {
    const keys = [...keysOf(state), '__w']
    const news = known(`__own_shows AND __nth > __own_shown AND __end > __own_after`)
    const changed = `SELECT DISTINCT ${keys.join(', ')} FROM (${news}) WHERE __w_end > __own_after`
    const same = keys.map((key) => `__t.${key} IS NOT DISTINCT FROM __c.${key}`).join(' AND ')
    const open = known(`__own_shows AND __end > __own_after`)
    given.push(
      `SELECT __t.* EXCLUDE (${OWN}), ${kindOf({ provisional: true })} FROM (${open}) __t SEMI JOIN (${changed}) __c ON ${same}`,
    )
  }
  return given.join(' UNION ALL BY NAME ')
}

/** What is written down of the batch: one row, joined once. As five scalar subqueries it makes the engine's estimate of the rows fall to
 *  nothing, and all of them are put in memory as the smaller side of a join. */
function ownOf(seen: string): string {
  const own = OWN_COLUMNS.map((name) => `__${name} AS __own_${name}`).join(', ')
  return `SELECT ${own} FROM ${seen} WHERE __seq = ${SEQUENCE}`
}

/** Sessions of the groups of which one may close now. */
function sessionRows(state: WindowState, { gapMs }: Sessions): string {
  const { tables, aside } = state
  const { rows, seen } = tables
  const [before, after] = [self(seen, '__before'), self(seen, '__after')]
  const keys = keysOf(state)
  const same = keys.map((key) => `__t.${key} IS NOT DISTINCT FROM __c.${key}`).join(' AND ') || 'true'
  const known = `SELECT * FROM (${knownRows(state)}) WHERE NOT __late AND __at IS NOT NULL`
  const closing = `SELECT DISTINCT ${['1 AS __one', ...keys].join(', ')} FROM (${known}) WHERE __end > ${before} AND __end <= ${after}`
  const touched = `SELECT __t.* FROM (${known}) __t SEMI JOIN (${closing}) __c ON ${same}`
  const closed = `SELECT *, ${kindOf()} FROM (${sessionsOf(touched, keys, gapMs)}) WHERE __w_end > ${before} AND __w_end <= ${after}`
  if (aside) return closed
  const late = sessionsOf(`SELECT * FROM ${rows} WHERE __seq = ${SEQUENCE} AND __late`, keys, gapMs)
  return [closed, `SELECT *, ${kindOf({ correction: true })} FROM (${late})`, untimed(rows)].join(' UNION ALL BY NAME ')
}

/** SELECT of the rows of `input` once for each window that they have missed, with ROW, `__w` and `__w_end`: NULL where a row has no time, and
 *  of sessions, of which nobody knows which it would have been. */
export function lateRows(state: WindowState, input: string): string {
  const { windows, tables } = state
  const before = self(tables.seen, '__before')
  const of = (where: string) => `SELECT *, ${before} AS __before FROM (${timedSql(state, input)}) WHERE ${where}`
  const untimedRows = inNoWindow(of('__at IS NULL'))
  const late = (): string => {
    if (windows.kind === 'fixed')
      return `SELECT * FROM (${inWindows(windows, of('__at IS NOT NULL'))}) WHERE __w_end <= __before`
    const missed = `SELECT * FROM (${of('__at IS NOT NULL')}) WHERE ${tooLateSql(windows)}`
    return windows.kind === 'session'
      ? inNoWindow(missed)
      : `SELECT *, __end - ${span(windows.everyMs)} AS __w, __end AS __w_end FROM (${missed})`
  }
  return `${late()} UNION ALL BY NAME ${untimedRows}`
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

/** A row without a time is in no window, and is told of at once. */
function untimed(rows: string): string {
  const own = `SELECT * FROM ${rows} WHERE __seq = ${SEQUENCE} AND __at IS NULL`
  return `SELECT *, ${kindOf({ correction: true })} FROM (${inNoWindow(own)})`
}

function inNoWindow(from: string): string {
  return `SELECT *, NULL::TIMESTAMP AS __w, NULL::TIMESTAMP AS __w_end FROM (${from})`
}

function kindOf({ correction = false, provisional = false } = {}): string {
  return `${correction} AS __correction, ${provisional} AS __provisional`
}
