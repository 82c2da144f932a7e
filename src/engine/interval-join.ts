/**
 * SQL of a join of two kinds of rows of one stream, by keys and by an interval of event time. Rows wait in two tables of the job's state
 * file. A left row comes out once, with all that it finds, when the watermark has passed the end of its interval.
 */
import { ROW } from './relation.ts'
import { SEQUENCE } from './sequence.ts'
import { dueSql, forgetBatches, moveWatermark, seenDdl, self, span, unrepeatable, type Watermark } from './watermark.ts'

/** A kind of rows, and what is kept of them. All SQL is over a row of the input. */
export interface JoinSide {
  /** SQL name of its table. */
  readonly table: string
  /** Which rows are of this kind. */
  readonly where: string
  readonly keys: readonly { readonly sql: string; readonly type: string }[]
  /** Quoted columns of the input, with their types. */
  readonly columns: readonly { readonly name: string; readonly type: string }[]
}

export interface IntervalJoin {
  readonly watermark: Watermark
  readonly left: JoinSide
  readonly right: JoinSide
  /** A right row is found from so long before the left row to so long after it. */
  readonly beforeMs: number
  readonly afterMs: number
}

export function joinDdl({ left, right, watermark }: IntervalJoin): string[] {
  return [...[left, right].map(sideDdl), seenDdl(watermark.seen)]
}

function sideDdl({ table, keys, columns }: JoinSide): string {
  const kept = [
    ...keys.map(({ type }, index) => `__k${index} ${type}`),
    ...columns.map(({ type }, index) => `__v${index} ${type}`),
  ]
  return `CREATE TABLE IF NOT EXISTS ${table} (${[...kept, '__at TIMESTAMP', '__end TIMESTAMP', '__nth BIGINT NOT NULL', '__seq BIGINT NOT NULL', `${ROW} BIGINT NOT NULL`].join(', ')})`
}

/** SELECT of the clock at which the next left row goes though nothing comes. */
export function joinDue({ left, watermark }: IntervalJoin): string {
  return dueSql(watermark, `SELECT __end FROM ${left.table}`)
}

export function joinMark(join: IntervalJoin, inputTable: string): string[] {
  const { left, right, watermark, beforeMs, afterMs } = join
  const { old, closed } = unrepeatable(watermark.seen)
  const findable = right.keys.map((_, index) => `__k${index} IS NOT NULL`)
  return [
    `DELETE FROM ${left.table} WHERE __seq = ${SEQUENCE}`,
    `DELETE FROM ${right.table} WHERE __seq = ${SEQUENCE}`,
    moveWatermark(watermark, inputTable),
    takeUp(join, left, afterMs, inputTable),
    `${takeUp(join, right, beforeMs + afterMs, inputTable)} WHERE ${['__at IS NOT NULL', ...findable].join(' AND ')}`,
    `DELETE FROM ${left.table} WHERE ${old} AND (__at IS NULL OR __end <= ${closed})`,
    `DELETE FROM ${right.table} WHERE ${old} AND __end <= ${closed}`,
    forgetBatches(watermark.seen),
  ]
}

/** `__end`: behind all that it may find, or that may find it. The last moment of the interval belongs to it. */
function takeUp({ watermark }: IntervalJoin, side: JoinSide, waitsMs: number, inputTable: string): string {
  const kept = [
    ...side.keys.map(({ sql }, index) => `${sql} AS __k${index}`),
    ...side.columns.map(({ name }, index) => `${name} AS __v${index}`),
  ]
  const rows = `SELECT ${[...kept, `${watermark.time} AS __at`, ROW].join(', ')} FROM ${inputTable} WHERE ${side.where}`
  return `INSERT INTO ${side.table} SELECT * EXCLUDE (${ROW}), __at + ${span(waitsMs)} + to_microseconds(1), ${self(watermark.seen, '__nth')}, ${SEQUENCE}, ${ROW} FROM (${rows})`
}

/** SELECT of `__l0…` and `__r0…`, the columns of both sides, `__correction`, and ROW by which a repetition numbers the same rows the
 *  same. `missing`: left rows that find nothing come with NULLs. */
export function joinedRows(join: IntervalJoin, missing: boolean): string {
  const { left, right, watermark } = join
  const [nth, before] = [self(watermark.seen, '__nth'), self(watermark.seen, '__before')]
  const items = [
    ...left.columns.map((_, index) => `__l.__v${index} AS __l${index}`),
    ...right.columns.map((_, index) => `__r.__v${index} AS __r${index}`),
    ...['__l.__nth AS __l_nth', `__l.${ROW} AS __l_row`, '__r.__nth AS __r_nth', `__r.${ROW} AS __r_row`],
  ]
  const found = `SELECT ${items.join(', ')}, __l.__correction FROM (${leaving(join)}) __l ${missing ? 'LEFT JOIN' : 'JOIN'} (SELECT * FROM ${right.table} WHERE __nth <= ${nth}) __r ON ${matches(join)}`
  // What comes too late finds left rows that are gone, as long as they are kept.
  const gone = `SELECT ${items.join(', ')}, true AS __correction FROM (SELECT * FROM ${left.table} WHERE __nth < ${nth} AND __end <= ${before}) __l JOIN (SELECT * FROM ${right.table} WHERE __seq = ${SEQUENCE}) __r ON ${matches(join)}`
  return numbered(`${found} UNION ALL ${gone}`, ['__l_nth', '__l_row', '__r_nth', '__r_row'])
}

/** SELECT of `__l0…`, `__correction` and ROW of the left rows that find nothing. */
export function unmatchedRows(join: IntervalJoin): string {
  const { left, right, watermark } = join
  const items = left.columns.map((_, index) => `__l.__v${index} AS __l${index}`)
  const own = ['__l.__nth AS __l_nth', `__l.${ROW} AS __l_row`, '__l.__correction']
  const alone = `SELECT ${[...items, ...own].join(', ')} FROM (${leaving(join)}) __l ANTI JOIN (SELECT * FROM ${right.table} WHERE __nth <= ${self(watermark.seen, '__nth')}) __r ON ${matches(join)}`
  return numbered(alone, ['__l_nth', '__l_row'])
}

/** Left rows that come out with this batch: those whose interval the watermark passes, and those for which it has passed before they came. */
function leaving({ left, watermark }: IntervalJoin): string {
  const [nth, before, after] = (['__nth', '__before', '__after'] as const).map((column) => self(watermark.seen, column))
  return [
    `SELECT *, false AS __correction FROM ${left.table} WHERE __nth <= ${nth} AND __end > ${before} AND __end <= ${after}`,
    `SELECT *, true AS __correction FROM ${left.table} WHERE __seq = ${SEQUENCE} AND (__at IS NULL OR __end <= ${before})`,
  ].join(' UNION ALL ')
}

function matches({ left, beforeMs, afterMs }: IntervalJoin): string {
  const keys = left.keys.map((_, index) => `__l.__k${index} = __r.__k${index}`)
  return [...keys, `__r.__at BETWEEN __l.__at - ${span(beforeMs)} AND __l.__at + ${span(afterMs)}`].join(' AND ')
}

function numbered(select: string, order: readonly string[]): string {
  return `SELECT *, row_number() OVER (ORDER BY ${order.join(', ')}) - 1 AS ${ROW} FROM (${select})`
}
