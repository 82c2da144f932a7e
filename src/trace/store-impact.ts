/** What the stores have of records that passed. */

import type { Job } from '../core/job/job.ts'
import { tokenNumber } from '../core/token.ts'
import type { TypedColumn } from '../engine/exact.ts'
import { ROW } from '../engine/relation.ts'
import { bindSequence } from '../engine/sequence.ts'
import type { Session } from '../engine/session.ts'
import { ident } from '../engine/sql-text.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import { columnList, commonColumns, handOver, sameRow } from './hand-over.ts'
import { groupsOf } from './match.ts'
import type { Repetition } from './repeat.ts'
import type { OpenStore } from './stores.ts'

export interface StoreImpact {
  readonly store: string
  /** `there`: the row is in the store. `replaced`: a later record of its key stands there. `contributes`: it is part of a set-wise
   *  output. `owed`: the batch waits in the spool. `missing`: the store was given the row and does not have it. `untraceable`: rows of
   *  the store do not know their batches. `not_given`: the store was not in the job then. */
  readonly status: 'there' | 'replaced' | 'contributes' | 'owed' | 'missing' | 'untraceable' | 'not_given'
  /** As the store has it. */
  readonly row: Readonly<Record<string, unknown>> | null
  /** Token of the batch that replaced it. */
  readonly by: string | null
}

export interface StoreImpactOptions {
  readonly session: Session
  readonly stores: readonly OpenStore[]
  /** All of the job: to name the batch behind a row. */
  readonly batches: readonly PastBatch[]
  readonly job: Job
}

const PASSED = 'passed_rows'
const NTH = '__nth'
const LAST = '__last'

/** By ROW. */
export async function storeImpacts(
  repetition: Repetition,
  rows: readonly number[],
  options: StoreImpactOptions,
): Promise<ReadonlyMap<number, readonly StoreImpact[]>> {
  const found = new Map<number, StoreImpact[]>(rows.map((row) => [row, []]))
  if (rows.length === 0) return found
  for (const store of options.stores) {
    const impacts = await inStore(repetition, rows, store, options)
    for (const row of rows) {
      const { status, row: stored = null, by = null } = impacts(row)
      found.get(row)?.push({ store: store.id, status, row: stored, by })
    }
  }
  return found
}

type Found = Partial<StoreImpact> & Pick<StoreImpact, 'status'>

async function inStore(
  repetition: Repetition,
  rows: readonly number[],
  store: OpenStore,
  options: StoreImpactOptions,
): Promise<(row: number) => Found> {
  const { past } = repetition.repeated
  const outcome = past.stores[store.id]
  if (outcome === undefined) return () => ({ status: 'not_given' })
  if (outcome.status === 'owed' && past.paidAt[store.id] === undefined) return () => ({ status: 'owed' })
  const { batch } = store.contents
  if (batch === undefined) return () => ({ status: 'untraceable' })
  const of = `${batch} = (${tokenNumber(outcome.token)})`
  const kind = repetition.rerun.pipeline.outputs.get(store.output.name)?.kind
  const found =
    kind === 'set'
      ? await groupRows(repetition, rows, store, of, options)
      : await ownRows(repetition, rows, store, of, options)
  return (row) => found.get(row) ?? { status: kind === 'set' ? 'contributes' : 'missing' }
}

/** The n-th of equal rows of the batch is the n-th of equal rows of the store. */
async function ownRows(
  { repeated, rerun }: Repetition,
  rows: readonly number[],
  { id, output, contents }: OpenStore,
  of: string,
  { session, batches }: StoreImpactOptions,
): Promise<Map<number, Found>> {
  const columns = commonColumns(contents.columns, repeated.refined.outputs.get(output.name)?.columns ?? [])
  const names = columnList(columns)
  const { key } = contents
  const keyed = key === undefined ? '' : key.map(ident).join(', ')
  const numbered = `row_number() OVER (PARTITION BY ${names} ORDER BY ${ROW}${key === undefined ? '' : ' DESC'}) AS ${NTH}`
  const last = key === undefined ? `true AS ${LAST}` : `${ROW} = max(${ROW}) OVER (PARTITION BY ${keyed}) AS ${LAST}`
  await handOver(
    { from: rerun.session, to: session, folder: rerun.folder, table: PASSED },
    `SELECT * FROM (SELECT ${ROW}, ${names}, ${numbered}, ${last} FROM (${repeated.rows})) WHERE ${ROW} IN (SELECT unnest([${rows.join(', ')}]::BIGINT[]))`,
    [{ name: ROW, type: 'BIGINT' }, { name: NTH, type: 'BIGINT' }, { name: LAST, type: 'BOOLEAN' }, ...columns],
  )
  const stored = `SELECT *, row_number() OVER (PARTITION BY ${names} ORDER BY __adflow_order) AS ${NTH} FROM (SELECT ${casts(columns)}, ${contents.order} AS __adflow_order, {${packed(contents.columns)}} AS __adflow_row FROM (${contents.select}) AS stored WHERE ${of})`
  const found = new Map<number, Found>()
  const there = await session.jsonRows(
    `SELECT p.${ROW}::INTEGER, s.__adflow_row FROM ${PASSED} AS p JOIN (${stored}) AS s ON p.${NTH} = s.${NTH} AND ${sameRow('p', 's', columns)} WHERE p.${LAST}`,
  )
  for (const [row, value] of there.rows) found.set(Number(row), { status: 'there', row: objectOf(value) })
  if (key === undefined) return found
  for (const row of await session.rows(`SELECT ${ROW}::INTEGER AS r FROM ${PASSED} WHERE NOT ${LAST}`))
    found.set(Number(row['r']), { status: 'replaced', by: repeated.past.token })
  const tokens = new Map(batches.map((own) => [tokenNumber(own.stores[id]?.token ?? own.token), own.token]))
  const keys = columns.filter(({ name }) => key.some((own) => own.toLowerCase() === name.toLowerCase()))
  const replaced = await session.rows(
    `SELECT p.${ROW}::INTEGER AS r, s.n AS n FROM ${PASSED} AS p JOIN (SELECT ${casts(keys)}, ${contents.batch} AS n FROM (${contents.select}) AS stored WHERE (${of}) IS NOT TRUE) AS s ON ${sameRow('p', 's', keys)}`,
  )
  for (const { r, n } of replaced)
    if (found.get(Number(r))?.status !== 'there')
      found.set(Number(r), { status: 'replaced', by: n === null ? null : (tokens.get(BigInt(String(n))) ?? null) })
  return found
}

/** Rows of the output's groups; none where the step does not say what makes a group. */
async function groupRows(
  { repeated, rerun }: Repetition,
  rows: readonly number[],
  { output, contents }: OpenStore,
  of: string,
  { session }: StoreImpactOptions,
): Promise<Map<number, Found>> {
  const columns = commonColumns(contents.columns, repeated.refined.outputs.get(output.name)?.columns ?? [])
  const stage = rerun.pipeline.stages.find(({ id }) => id === output.name)
  const groups = stage?.step.groups ?? []
  if (stage === undefined || !repeated.refined.streamed || groupsOf(stage, columns) === undefined) return new Map()
  const names = new Set(groups.map(({ name }) => name.toLowerCase()))
  const keys = columns.filter(({ name }) => names.has(name.toLowerCase()))
  const items = groups.map(({ name, sql }) => `${sql} AS ${ident(name)}`).join(', ')
  const input = bindSequence(stage.input.sql, tokenNumber(repeated.past.token))
  await handOver(
    { from: rerun.session, to: session, folder: rerun.folder, table: PASSED },
    `SELECT ${ROW}, ${items} FROM (${input}) WHERE ${ROW} IN (SELECT unnest([${rows.join(', ')}]::BIGINT[]))`,
    [{ name: ROW, type: 'BIGINT' }, ...keys],
  )
  const found = await session.jsonRows(
    `SELECT p.${ROW}::INTEGER, s.__adflow_row FROM ${PASSED} AS p JOIN (SELECT ${casts(keys)}, {${packed(contents.columns)}} AS __adflow_row FROM (${contents.select}) AS stored WHERE ${of}) AS s ON ${sameRow('p', 's', keys)}`,
  )
  return new Map(found.rows.map(([row, value]) => [Number(row), { status: 'contributes', row: objectOf(value) }]))
}

function casts(columns: readonly TypedColumn[]): string {
  return columns.map(({ name, type }) => `TRY_CAST(${ident(name)} AS ${type}) AS ${ident(name)}`).join(', ')
}

function packed(columns: readonly { readonly name: string }[]): string {
  return columns.map(({ name }) => `${ident(name)}: ${ident(name)}`).join(', ')
}

/** The engine gives a struct as JSON has it. */
function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return value as Readonly<Record<string, unknown>>
}
