/**
 * How far event time has come. For each batch stands written down where the watermark was before and after it: what a step gives with a
 * batch follows from these, so that a repetition of the batch gives the same.
 */
import type { Column, Relation } from '../core/contracts.ts'
import { duration } from '../core/job/units.ts'
import type { Expression } from '../core/step-contract.ts'
import { IDLE, LANE, SEQUENCE } from './sequence.ts'
import { ident, literal } from './sql-text.ts'
import { invalidStep, requireColumn } from './step-columns.ts'

export const watermarkShape = {
  lateness: duration
    .prefault('0s')
    .describe('How far behind the newest event of its lane an event may come and still count.'),
  idle: duration
    .prefault('1m')
    .describe(
      'A lane of which no batch has come for so long does not hold back what waits for its events. In a stream (`until: forever`) of which nothing at all has come for so long, time passes by the clock.',
    ),
  settle: duration
    .prefault('10s')
    .describe('Nothing is given before so long after the very first batch: until then each lane has been heard of.'),
} as const

export interface Watermark {
  /** SQL name of the table of batches. */
  readonly seen: string
  /** SQL of the event time as TIMESTAMP over a row of the input; NULL where it has none. */
  readonly time: string
  readonly latenessMs: number
  readonly idleMs: number
  /** Nothing passes before so long after the first batch. */
  readonly settleMs: number
}

/** The newest batches may be repeated: what they were decided by is kept as it was. */
export const REPEATABLE_BATCHES = 100
/** The clock of the batch. */
export const NOW = 'now()::TIMESTAMP'
/** Nearer to the ends of the calendar adding a span would overflow and stop the batch. */
const SANE = `BETWEEN TIMESTAMP '0002-01-01 00:00:00' AND TIMESTAMP '9998-12-31 23:59:59.999999'`

/** A column of times, and the time of a row as TIMESTAMP. @throws AdflowError SQL_INVALID */
export function eventTime(input: Relation, name: string, path: Expression['path']): { column: Column; sql: string } {
  const column = requireColumn(input, name, path)
  if (!column.type.startsWith('TIMESTAMP'))
    throw invalidStep(`time needs a timestamp; ${column.name} is ${column.type}`, path)
  const at = `TRY_CAST(${ident(column.name)} AS TIMESTAMP)`
  return { column, sql: `(CASE WHEN ${at} ${SANE} THEN ${at} END)` }
}

/** `more`: columns that a step writes down of a batch besides. */
export function seenDdl(seen: string, more: readonly string[] = []): string {
  const own = '__seq BIGINT NOT NULL, __nth BIGINT NOT NULL, __lane VARCHAR NOT NULL, __lane_at TIMESTAMP'
  const columns = [own, ...['__clock', '__before', '__after'].map((name) => `${name} TIMESTAMP NOT NULL`), ...more]
  return `CREATE TABLE IF NOT EXISTS ${seen} (${columns.join(', ')})`
}

/** The statement that moves it: `lateness` behind the lane that is furthest behind. No event moves it beyond the batch's clock, and a
 *  lane of which nothing has come for so long does not hold it. A batch without a record, which tells that nothing comes, moves it up to its
 *  clock where no lane holds it. `more`: values of the columns besides. */
export function moveWatermark(
  { seen, time, latenessMs, idleMs, settleMs }: Watermark,
  inputTable: string,
  more: readonly string[] = [],
): string {
  const newest = newestBatch(seen)
  const before = `(SELECT coalesce(max(__after), TIMESTAMP '-infinity') FROM ${seen})`
  const read = `(SELECT CASE WHEN max(${time}) IS NOT NULL THEN least(max(${time}), ${NOW}) END FROM ${inputTable})`
  const mine = `greatest((SELECT max(__lane_at) FROM ${seen} WHERE __lane = ${LANE}), ${read})`
  const others = `SELECT max(__lane_at) AS reached FROM ${seen} WHERE __lane <> ${LANE} GROUP BY __lane HAVING max(__clock) >= ${NOW} - ${span(idleMs)}`
  const held = `(SELECT min(reached) FROM (SELECT ${mine} AS reached UNION ALL ${others}))`
  const silent = `${LANE} = ${literal(IDLE)} AND (SELECT count(*) FROM (${others})) = 0 AND EXISTS (SELECT 1 FROM ${seen})`
  const reached = `(CASE WHEN ${silent} THEN ${NOW} ELSE ${held} END)`
  const begun = `(SELECT coalesce(min(__clock), ${NOW}) FROM ${seen})`
  const unsettled = `${before} = TIMESTAMP '-infinity' AND ${NOW} < ${begun} + ${span(settleMs)}`
  const after = `greatest(${before}, CASE WHEN NOT (${unsettled}) THEN ${reached} - ${span(latenessMs)} END)`
  const values = [SEQUENCE, `${newest} + 1`, LANE, mine, NOW, before, after, ...more]
  return `INSERT INTO ${seen} SELECT ${values.join(', ')} WHERE NOT EXISTS (SELECT 1 FROM ${seen} WHERE __seq = ${SEQUENCE})`
}

/** SELECT of the clock at which a batch without a record would move it past the first of these ends that lies before it. `ends`: SELECT of `__end`. */
export function dueSql(
  { seen, latenessMs, settleMs }: Pick<Watermark, 'seen' | 'latenessMs' | 'settleMs'>,
  ends: string,
): string {
  const first = `SELECT min(__end) AS due FROM (${ends}) WHERE __end > (SELECT coalesce(max(__after), TIMESTAMP '-infinity') FROM ${seen})`
  return `SELECT CASE WHEN due IS NOT NULL THEN greatest(due + ${span(latenessMs)}, (SELECT min(__clock) FROM ${seen}) + ${span(settleMs)}) END FROM (${first})`
}

/** Number of the batch that was marked last; 0: none was. */
export function newestBatch(seen: string): string {
  return `(SELECT coalesce(max(__nth), 0) FROM ${seen})`
}

/** Conditions over `__nth` and a time: of batches that are not repeated any more, and up to where the watermark stood before all others. */
export function unrepeatable(seen: string): { readonly old: string; readonly closed: string } {
  const old = `__nth <= (SELECT max(__nth) FROM ${seen}) - ${REPEATABLE_BATCHES}`
  return { old, closed: `(SELECT min(__before) FROM ${seen} WHERE NOT ${old})` }
}

/** What is known of batches that are not repeated any more goes, but for the first one, and the last of each lane. */
export function forgetBatches(seen: string): string {
  const { old } = unrepeatable(seen)
  return `DELETE FROM ${seen} WHERE ${old} AND __nth > (SELECT min(__nth) FROM ${seen}) AND __nth < (SELECT max(__nth) FROM ${seen} AS __s WHERE __s.__lane = ${seen.split('.').at(-1)}.__lane AND __s.${old})`
}

/** What was written down for this batch. */
export function self(seen: string, column: string): string {
  return `(SELECT ${column} FROM ${seen} WHERE __seq = ${SEQUENCE})`
}

/** An INTERVAL literal takes at most 2^31: 24 days in milliseconds. */
export function span(ms: number): string {
  return `to_microseconds(${ms * 1000})`
}
