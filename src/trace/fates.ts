/** What became of records of a repeated batch: passed, or taken out, by which rule or step. */
import { join } from 'node:path'
import { ROW } from '../engine/relation.ts'
import { ROWS_VIEW } from '../runtime/pipeline.ts'
import { type QuarantineRecord, rawFields } from '../runtime/quarantine.ts'
import type { Chosen } from './choose-records.ts'
import { recordsOf, type TracedRecord } from './records.ts'
import type { Repetition } from './repeat.ts'

export interface Fate extends TracedRecord {
  readonly fate: 'passed' | 'quarantined' | 'filtered' | 'deduplicated'
  /** Id of the rule or step that took it out. */
  readonly by: string | null
  readonly reason: string | null
  /** File of the quarantine that keeps it. */
  readonly kept_in: string | null
}

/** `row`: ROW of a record that passed. */
export type RowFate = Fate & { readonly row?: number }

const CHOSEN = 'chosen_rows'

export async function fatesOf(
  { repeated, rerun }: Repetition,
  { ordinals, refused }: Chosen,
  quarantine: string,
): Promise<readonly RowFate[]> {
  const { session, pipeline } = rerun
  const { past, chunk, refined } = repeated
  const kept = join(quarantine, `${past.token}.ndjson`)
  const found = new Map(refined.quarantine.map((entry) => [placeKey(entry), entry]))
  const records = await recordsOf(repeated, ordinals, session)
  const rows = new Map(ordinals.map((ordinal) => [rowOf(ordinal, refined.removed), ordinal]))
  rows.delete(-1)
  await session.run(
    `CREATE OR REPLACE TEMP TABLE ${CHOSEN} AS SELECT unnest([${[...rows.keys()].join(', ')}]::BIGINT[]) AS ${ROW}`,
  )
  const among = async (select: string) =>
    (await session.rows(`SELECT ${ROW}::BIGINT AS r FROM (${select}) WHERE ${ROW} IN (FROM ${CHOSEN})`)).map((row) =>
      Number(row['r']),
    )
  const passed = new Set(await among(repeated.rows))
  const out = new Map<number, Pick<Fate, 'fate' | 'by'>>()
  for (const { as, step, sql } of refined.chain?.drops ?? [])
    for (const row of await among(sql)) out.set(row, { fate: as, by: step })
  for (const rule of pipeline.plan.rules.filter(({ onFail }) => onFail === 'drop').reverse())
    for (const row of await among(
      `SELECT rowid AS ${ROW} FROM ${ROWS_VIEW} WHERE NOT __ok AND (${rule.check}\n) IS FALSE`,
    ))
      out.set(row, { fate: 'filtered', by: rule.id })
  const fates = ordinals.flatMap((ordinal): RowFate[] => {
    const record = records.get(ordinal)
    if (record === undefined) return []
    const entry = found.get(placeKey(record))
    if (entry !== undefined)
      return [{ ...record, fate: 'quarantined', by: entry.rule, reason: reasonOf(entry), kept_in: kept }]
    const row = rowOf(ordinal, refined.removed)
    if (passed.has(row)) return [{ ...record, fate: 'passed', by: null, reason: null, kept_in: null, row }]
    return [{ ...record, ...(out.get(row) ?? { fate: 'filtered', by: null }), reason: null, kept_in: null }]
  })
  const cut = refused.map(({ byteFrom, byteTo, line, raw, message }): RowFate => {
    const place = { origin: chunk.origin, byte_from: byteFrom, byte_to: byteTo, line, ...rawFields(raw) }
    return {
      ...place,
      fate: 'quarantined',
      by: found.get(placeKey(place))?.rule ?? null,
      reason: message,
      kept_in: kept,
    }
  })
  return [...fates, ...cut]
}

function placeKey({ byte_from, line }: Pick<QuarantineRecord, 'byte_from' | 'line'>): string {
  return `${byte_from}:${line}`
}

function reasonOf({ field, reason }: QuarantineRecord): string {
  return field === null ? reason : `${field}: ${reason}`
}

/** The inverse of toOrdinals(): -1 for a record that never became a row. */
function rowOf(ordinal: number, removed: readonly number[]): number {
  let before = 0
  while (before < removed.length && (removed[before] as number) < ordinal) before += 1
  return removed[before] === ordinal ? -1 : ordinal - before
}
