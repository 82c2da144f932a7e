/**
 * Runs the compiled chain over the admitted rows of one batch. Two ways, one result: streamed (the SQL of the whole chain,
 * evaluated by whoever consumes it) and guarded (step by step, in tables), which finds the rows on which an expression
 * raises. What leaves the chain is counted where it leaves, never by subtraction, so that the books can fail to close.
 */
import type { Column, Relation } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { inOrder, ROW, withoutRow } from '../engine/relation.ts'
import { bindSequence } from '../engine/sequence.ts'
import type { Session } from '../engine/session.ts'
import { ident } from '../engine/sql-text.ts'
import { MAIN, type Output, type Pipeline, type Stage } from './pipeline.ts'

/** Count and order-independent digest (sum of hashes of ROW) of a set of rows. */
export interface Tally {
  readonly count: number
  readonly sum: bigint
}

export interface Drop {
  readonly as: 'filtered' | 'deduplicated' | 'quarantined'
  readonly step: string
  readonly tally: Tally
  /** ROWs, where the rows go to quarantine. */
  readonly rows: readonly number[]
  /** SELECT of the ROWs; valid until the session refines another batch. */
  readonly sql: string
  readonly field: string | null
  readonly reason: string
}

export interface ChainResult {
  readonly drops: readonly Drop[]
  /** Rows that reach the end of the row-wise part of the chain. */
  readonly out: Tally
  /** SELECT of ROW and the columns there; valid until the session refines another batch. */
  readonly rows: string
  readonly outputs: ReadonlyMap<string, ChainOutput>
}

export interface ChainOutput {
  readonly relation: string
  readonly columns: readonly Column[]
  /** Of a relation that stands in a table. */
  readonly rows?: number
}

export interface ChainOptions {
  readonly session: Session
  readonly pipeline: Pipeline
  /** Number of the batch for marks (see core/token.ts). */
  readonly number: bigint
  /** Name of source and lane, for marks. */
  readonly lane: string
  readonly guarded: boolean
  /** What no batch needs any more goes from the tables of steps. */
  readonly sweep: boolean
  /** How many loaders and consumers read each output. */
  readonly consumers: ReadonlyMap<string, number>
}

/** Errors of the engine while it evaluates SQL of the job: the guarded way finds the rows. */
export function isDataError(error: unknown): boolean {
  return error instanceof AdflowError && error.code === 'ENGINE_FAILED'
}

async function tally(session: Session, select: string): Promise<Tally> {
  const [row] = await session.rows(
    `SELECT count(*) AS n, coalesce(sum(hash(${ROW})), 0)::HUGEINT AS s FROM (${select})`,
  )
  return { count: Number(row?.['n'] ?? 0), sum: BigInt(String(row?.['s'] ?? 0)) }
}

export async function runChain(options: ChainOptions): Promise<ChainResult> {
  return options.guarded ? new GuardedChain(options).run() : runStreamed(options)
}

async function runStreamed(options: ChainOptions): Promise<ChainResult> {
  const { session, pipeline, number, lane, sweep, consumers } = options
  const at = numbered(number, lane)
  const drops: Drop[] = []
  /** What stands in a table by now is not evaluated again. */
  const known = new Map<string, string>()
  for (const stage of pipeline.stages) {
    if (stage.inputTable !== undefined) {
      await inputOf(stage, options, at(stage.input.sql))
      known.set(stage.input.sql, `SELECT * FROM ${ident(stage.inputTable)}`)
    }
    await mark(session, stage, at, sweep)
    if (stage.step.drops !== undefined) drops.push(await dropOf(session, stage, at(stage.step.drops.sql)))
  }
  const outputs = new Map<string, ChainOutput>()
  // Where there are several, an expression that raises in one of them would leave the others with rows that it then takes out.
  const readers = [...consumers.values()].reduce((total, count) => total + count, 0)
  const streamed = readers <= 1
  for (const output of pipeline.outputs.values()) {
    const select = at(rowsOf(output, pipeline))
    const asSql = streamed || (!consumers.has(output.name) && raisesNothing(output, pipeline))
    outputs.set(output.name, {
      ...(asSql ? { relation: `(${select})` } : await materialise(session, output, select)),
      columns: output.relation.columns,
    })
  }
  const rows = known.get(pipeline.rows.sql) ?? at(pipeline.rows.sql)
  return { drops, out: await tally(session, rows), rows, outputs }
}

/** No expression is left to be evaluated behind the last step that took its rows from a table. */
function raisesNothing({ name }: Output, { outputs, stages }: Pipeline): boolean {
  const last = stages.findLastIndex(({ inputTable }) => inputTable !== undefined)
  const behind = stages.slice(Math.max(0, last))
  const aside = (stage: Stage) => stage.step.kind === 'set' && outputs.has(stage.id)
  const plain = ({ step }: Stage) => step.kind === 'row' && step.expressions.length === 0
  return name === MAIN && behind.every((stage) => aside(stage) || plain(stage))
}

/** Each step over a table of its input, without the rows on which its expressions raise. */
class GuardedChain {
  readonly #options: ChainOptions
  readonly #drops: Drop[] = []

  constructor(options: ChainOptions) {
    this.#options = options
  }

  async run(): Promise<ChainResult> {
    const { session, pipeline, number, lane, sweep } = this.#options
    const at = numbered(number, lane)
    const outputs = new Map<string, ChainOutput>()
    let current: Relation = pipeline.base
    let rows = await this.#input(0, at(current.sql))
    for (const [index, stage] of pipeline.stages.entries()) {
      if (index > 0) await this.#input(index, at(current.sql))
      await this.#takeOutFailing(index, stage)
      if (stage.inputTable !== undefined) await inputOf(stage, this.#options, `SELECT * FROM guard_${index}`)
      await mark(session, stage, at, sweep)
      const { guarded } = stage
      if (guarded.drops !== undefined) this.#drops.push(await dropOf(session, stage, at(guarded.drops.sql)))
      for (const { name, relation } of guarded.branches ?? []) {
        const branch = pipeline.outputs.get(name)
        if (branch !== undefined) outputs.set(name, await this.#output(branch, at(relation.sql)))
      }
      const named = pipeline.outputs.get(stage.id)
      if (named !== undefined && named.kind === 'set')
        outputs.set(stage.id, await this.#output(named, at(guarded.output.sql)))
      else current = guarded.output
      if (guarded.kind === 'row' && named === undefined) rows = at(current.sql)
    }
    const main = pipeline.outputs.get('main') as Output
    const out = await tally(session, rows)
    outputs.set('main', await this.#output(main, at(current.sql)))
    return { drops: this.#drops, out, rows, outputs }
  }

  async #input(index: number, sql: string): Promise<string> {
    await table(this.#options.session, `guard_${index}`, sql)
    return `SELECT * FROM guard_${index}`
  }

  async #output(output: Output, sql: string): Promise<ChainOutput> {
    const columns = output.relation.columns
    const select = rowsOf({ ...output, relation: { sql, columns } }, this.#options.pipeline)
    return { ...(await materialise(this.#options.session, output, select)), columns }
  }

  async #takeOutFailing(index: number, stage: Stage): Promise<void> {
    const { session } = this.#options
    for (const { field, sql, over } of stage.guarded.expressions) {
      const from = over ?? `SELECT * FROM guard_${index}`
      const failing = await session.rows(
        `SELECT ${ROW}::INTEGER AS r FROM (${from}) WHERE TRY({'v': (${sql}\n)}) IS NULL ORDER BY 1`,
      )
      if (failing.length === 0) continue
      const rows = failing.map((row) => Number(row['r']))
      const these = `SELECT * FROM guard_${index} WHERE ${ROW} IN (${rows.join(', ')})`
      this.#drops.push({
        as: 'quarantined',
        step: stage.id,
        tally: await tally(session, these),
        rows,
        sql: `SELECT unnest([${rows.join(', ')}]::BIGINT[]) AS ${ROW}`,
        field,
        reason: `the expression fails on this record: ${sql}`,
      })
      await session.run(`DELETE FROM guard_${index} WHERE ${ROW} IN (${rows.join(', ')})`)
    }
  }
}

async function dropOf(session: Session, stage: Stage, sql: string): Promise<Drop> {
  const drops = stage.step.drops
  if (drops?.as === 'quarantined') {
    const rows = await session.rows(`SELECT ${ROW}::INTEGER AS r FROM (${sql}) ORDER BY 1`)
    return {
      as: 'quarantined',
      step: stage.id,
      tally: await tally(session, sql),
      rows: rows.map((row) => Number(row['r'])),
      sql,
      field: drops.field,
      reason: drops.message,
    }
  }
  return {
    as: drops?.as ?? 'filtered',
    step: stage.id,
    tally: await tally(session, sql),
    rows: [],
    sql,
    field: null,
    reason: '',
  }
}

/** Marks of all steps of a batch are durable before any store sees it; they carry the batch's number, so a repetition
 *  of the batch finds its own marks and its rows still arrive. */
async function mark(session: Session, stage: Stage, at: (sql: string) => string, sweep: boolean): Promise<void> {
  const { state } = stage.step
  if (state === undefined || stage.inputTable === undefined) return
  const statements = [...state.mark(ident(stage.inputTable)), ...(sweep ? (state.sweep ?? []) : [])]
  await session.transaction(async () => {
    for (const statement of statements) await session.run(at(statement))
  })
}

async function materialise(
  session: Session,
  output: Output,
  select: string,
): Promise<{ readonly relation: string; readonly rows: number }> {
  const name = `output_${output.name}`
  return { rows: await table(session, name, select), relation: ident(name) }
}

/** What a step with state reads several times. The admitted rows stand in a table already. */
async function inputOf(
  { input, inputTable = '' }: Stage,
  { session, pipeline }: ChainOptions,
  select: string,
): Promise<void> {
  if (input.sql !== pipeline.base.sql) await table(session, inputTable, select)
  else await session.run(`CREATE OR REPLACE TEMP VIEW ${ident(inputTable)} AS ${select}`)
}

function rowsOf(output: Output, { reorders }: Pipeline): string {
  return reorders && output.kind === 'row' ? inOrder(output.relation) : withoutRow(output.relation)
}

/** @returns its rows */
async function table(session: Session, name: string, select: string): Promise<number> {
  return Number(await session.value(`CREATE OR REPLACE TEMP TABLE ${ident(name)} AS ${select}`))
}

function numbered(number: bigint, lane: string): (sql: string) => string {
  return (sql) => bindSequence(sql, number, lane)
}
