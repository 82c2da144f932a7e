/** Which record of a repeated batch is behind a row of the store. */
import { tokenNumber } from '../core/token.ts'
import type { TypedColumn } from '../engine/exact.ts'
import { ROW } from '../engine/relation.ts'
import { bindSequence } from '../engine/sequence.ts'
import { ident } from '../engine/sql-text.ts'
import type { Stage } from '../runtime/pipeline.ts'
import { columnList, sameRow } from './hand-over.ts'
import type { Repetition } from './repeat.ts'

/** Temp table of the rerun's session: rows of the store, with ID and BATCH. */
export const WANTED = 'wanted_rows'
export const ID = '__adflow_id'
export const BATCH = '__adflow_number'

/** Id of a wanted row → ROWs of the records behind it. */
export type Matches = ReadonlyMap<number, readonly number[]>

export interface MatchOptions {
  /** Number of the batch in the store. */
  readonly number: bigint
  /** Columns that store and batch have in common. */
  readonly columns: readonly TypedColumn[]
  /** Of equal rows the last one counts: the store replaces rows by key. */
  readonly lastWins: boolean
}

/** Equal rows of a batch go to different records: the first to the first, the second to the second. */
export async function matchRows(
  { repeated, rerun }: Repetition,
  { number, columns, lastWins }: MatchOptions,
): Promise<Matches> {
  const names = columnList(columns)
  const over = (order: string) =>
    `row_number() OVER (${names === '' ? '' : `PARTITION BY ${names} `}ORDER BY ${order}) AS __nth`
  const rows = await rerun.session.rows(
    `WITH w AS MATERIALIZED (SELECT ${ID}, ${names}, ${over(ID)} FROM ${WANTED} WHERE ${BATCH} = (${number})),
      r AS (SELECT ${ROW}, ${names}, ${over(`${ROW}${lastWins ? ' DESC' : ''}`)} FROM (${repeated.rows}) AS b WHERE EXISTS (SELECT 1 FROM w WHERE ${sameRow('w', 'b', columns)}))
     SELECT w.${ID}::BIGINT AS id, r.${ROW}::BIGINT AS r FROM w JOIN r ON w.__nth = r.__nth AND ${sameRow('w', 'r', columns)}`,
  )
  return new Map(rows.map((row) => [Number(row['id']), [Number(row['r'])]]))
}

/** Rows of a set-wise output stand for no single record. Where the step says what makes a group, its records are found; otherwise a
 *  match without records says that the batch gives the row. */
export async function matchSets(
  { repeated, rerun }: Repetition,
  { number, columns }: MatchOptions,
  name: string,
): Promise<Matches> {
  const { session, pipeline } = rerun
  const output = repeated.refined.outputs.get(name)
  if (output === undefined) return new Map()
  const found = await session.rows(
    `SELECT ${ID}::BIGINT AS id FROM ${WANTED} AS w WHERE ${BATCH} = (${number}) AND EXISTS (SELECT 1 FROM ${output.relation} AS b WHERE ${sameRow('w', 'b', columns)})`,
  )
  const matches = new Map<number, readonly number[]>(found.map((row) => [Number(row['id']), []]))
  const stage = pipeline.stages.find(({ id }) => id === name)
  const same = repeated.refined.streamed ? groupsOf(stage, columns) : undefined
  if (stage === undefined || same === undefined || matches.size === 0) return matches
  const rows = await session.rows(
    `SELECT w.${ID}::BIGINT AS id, list(b.${ROW}::BIGINT ORDER BY b.${ROW}) AS r FROM ${WANTED} AS w JOIN (SELECT *, ${same.keys} FROM (${bindSequence(stage.input.sql, tokenNumber(repeated.past.token))})) AS b ON ${same.on} WHERE w.${BATCH} = (${number}) GROUP BY 1`,
  )
  for (const row of rows) {
    const id = Number(row['id'])
    if (matches.has(id)) matches.set(id, (row['r'] as unknown[]).map(Number))
  }
  return matches
}

export function groupsOf(
  stage: Stage | undefined,
  columns: readonly TypedColumn[],
): { readonly keys: string; readonly on: string } | undefined {
  const groups = stage?.step.groups
  if (groups === undefined || groups.length === 0) return undefined
  const known = new Set(columns.map(({ name }) => name.toLowerCase()))
  if (groups.some(({ name }) => !known.has(name.toLowerCase()))) return undefined
  return {
    keys: groups.map(({ sql }, index) => `${sql} AS __key${index}`).join(', '),
    on: groups.map(({ name }, index) => `w.${ident(name)} IS NOT DISTINCT FROM b.__key${index}`).join(' AND '),
  }
}
