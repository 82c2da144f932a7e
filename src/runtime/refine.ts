/** From a chunk to what its batch hands to the stores, with the books of every record that stays behind. */
import type { Chunk, Loader } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { IDLE_SOURCE } from '../core/idle.ts'
import { tokenNumber } from '../core/token.ts'
import { type Admitted, admit, chunkSql, type Rejected, toOrdinals } from '../engine/admit.ts'
import { CONTRACT_RULES } from '../engine/read-plan.ts'
import { withRowSeen } from '../engine/relation.ts'
import { sumOfRows } from '../engine/row-sums.ts'
import { laneText } from '../engine/sequence.ts'
import type { Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import type { BatchCounts, BatchSums } from '../lineage/events.ts'
import { type ChainResult, type Drop, isDataError, runChain, type Tally } from './chain.ts'
import { MAIN, type Pipeline, ROWS_VIEW } from './pipeline.ts'
import { type QuarantineRecord, quarantineRecords, refusedRule } from './quarantine.ts'
import type { Store } from './store.ts'

/** Temp table of the admitted rows of the batch in work; the chain sees it as ROWS_VIEW. */
const ADMITTED_TABLE = 'admitted_rows'

export interface RefineOptions {
  readonly session: Session
  readonly pipeline: Pipeline
  readonly token: string
  /** Id of the source. */
  readonly source: string
  /** ISO 8601 UTC: now() of the batch. */
  readonly clock: string
  readonly chunkDir: string
  readonly expectDamage: boolean
  /** Loaders that read each output. */
  readonly consumers: ReadonlyMap<string, number>
  /** Mean rows of earlier batches, for batch rules. */
  readonly baseline: number | undefined
  readonly guarded: boolean
  /** What no batch needs any more goes from the tables of steps. */
  readonly sweep: boolean
  /** Resolves when the batches before this one are through their chains: for steps with state. */
  readonly turn?: () => Promise<void>
}

export interface Refined {
  readonly outputs: ChainResult['outputs']
  readonly counts: BatchCounts
  readonly sums: BatchSums
  /** Rows at the end of the row-wise chain. */
  readonly rows: number
  /** The same rows as SQL, with their ROW, and what left the chain where: for whoever follows records. Undefined where nothing was
   *  looked at. Valid until the session refines another batch. */
  readonly chain: Pick<ChainResult, 'rows' | 'drops'> | undefined
  readonly quarantine: readonly QuarantineRecord[]
  readonly warnings: readonly { readonly rule: string; readonly message: string }[]
  readonly damaged: boolean
  /** Ordinals of records that never became rows, ascending: see toOrdinals(). */
  readonly removed: readonly number[]
  /** Outputs are SQL still to be evaluated: an expression may yet fail inside a store's write. */
  readonly streamed: boolean
  /** Nothing was looked at yet: the one store reads the chunk itself, and must take every record. */
  readonly direct: boolean
}

/** What stores must know of a batch to be given it. */
export interface Streamed extends Pick<Refined, 'outputs' | 'streamed' | 'direct'> {
  /** See Delivery. */
  readonly encoded?: () => unknown
}

/** How clean batches may be streamed to the one store that reads them; undefined: they may not. A chain that keeps every row
 *  needs no table between the chunk and the store. */
export function streamsTo(stores: readonly Store[], pipeline: Pipeline): Loader['streams'] {
  const [only, ...others] = stores
  const keepsRows =
    pipeline.batchRules.length === 0 &&
    pipeline.warnRules.length === 0 &&
    pipeline.plan.unknown === 'discard_value' &&
    pipeline.stages.every(({ step }) => step.kind === 'row' && step.drops === undefined && step.state === undefined)
  return keepsRows && others.length === 0 && only?.input === MAIN ? only.loader.streams : undefined
}

/** The clean batch, not yet evaluated: the relation gives as many rows as the chunk has records, or the store rejects. Its
 *  books can be made when the chunk has been counted. */
export async function refineDirect(
  chunk: Chunk,
  { session, pipeline, clock, chunkDir }: RefineOptions,
): Promise<Streamed> {
  await setClock(session, clock)
  const select = await chunkSql(chunk, { session, plan: pipeline.plan, folder: chunkDir, expectDamage: false })
  await session.run(`CREATE OR REPLACE TEMP VIEW ${ROWS_VIEW} AS ${select}`)
  const main = pipeline.outputs.get(MAIN)
  if (main === undefined) throw new AdflowError('UNEXPECTED', 'the chain has no main output')
  return {
    outputs: new Map([[MAIN, { relation: `(${withRowSeen(main.relation)})`, columns: main.relation.columns }]]),
    streamed: true,
    direct: true,
  }
}

/** The books of a clean batch that is streamed: every record passes, or the store rejects. */
export async function directBooks(chunk: Chunk, streamed: Streamed, session: Session): Promise<Refined> {
  const sum = await sumOfRows(session, chunk.records)
  return {
    ...streamed,
    counts: { read: chunk.records, quarantined: {}, filtered: {}, deduplicated: 0, warned: {} },
    sums: { read: sum, quarantined: '0', filtered: '0', deduplicated: '0', out: sum },
    rows: chunk.records,
    chain: undefined,
    quarantine: [],
    warnings: [],
    damaged: false,
    removed: [],
  }
}

async function setClock(session: Session, clock: string): Promise<void> {
  await session.run(`CREATE OR REPLACE TEMP MACRO now() AS TIMESTAMPTZ ${literal(clock)}`)
}

export async function refine(chunk: Chunk, options: RefineOptions): Promise<Refined> {
  if (options.guarded) return refineOnce(chunk, options)
  try {
    return await refineOnce(chunk, options)
  } catch (error) {
    if (!isDataError(error)) throw error
    return refineOnce(chunk, { ...options, guarded: true })
  }
}

async function refineOnce(chunk: Chunk, options: RefineOptions): Promise<Refined> {
  const { session, pipeline, clock } = options
  await setClock(session, clock)
  const admitted = await admit(chunk, ADMITTED_TABLE, {
    session,
    plan: pipeline.plan,
    folder: options.chunkDir,
    expectDamage: options.expectDamage,
  })
  await session.run(`CREATE OR REPLACE TEMP VIEW ${ROWS_VIEW} AS SELECT rowid, * FROM ${ADMITTED_TABLE}`)
  await chunk.verify?.()
  const verdicts = judge(chunk, admitted, pipeline)
  // Of a batch that only lets time pass there is nothing to be asked.
  const warnings = options.source === IDLE_SOURCE ? [] : await askBatchRules(options)
  await options.turn?.()
  const chain = await runChain({
    session,
    pipeline,
    number: tokenNumber(options.token),
    lane: laneText(options.source, chunk.range.lane),
    guarded: options.guarded,
    sweep: options.sweep,
    consumers: options.consumers,
  })
  const books = await balance(chunk, admitted, verdicts, chain, options)
  const late = lateRejections(chain.drops, admitted.removed)
  return {
    outputs: chain.outputs,
    ...books,
    counts: { ...books.counts, warned: await countWarned(options) },
    rows: chain.out.count,
    chain,
    quarantine: await quarantineRecords(chunk, [...verdicts.quarantined, ...late], session),
    warnings,
    damaged: admitted.removed.length > 0,
    removed: admitted.removed,
    streamed: !options.guarded,
    direct: false,
  }
}

interface Verdicts {
  readonly quarantined: readonly Rejected[]
  /** Rows that a rule with `on_fail: drop` took out, by rule. */
  readonly dropped: ReadonlyMap<string, number[]>
}

/** The first rule that a record breaks decides what becomes of it. */
function judge(chunk: Chunk, admitted: Admitted, { plan }: Pipeline): Verdicts {
  const actions = new Map(plan.rules.map((rule) => [rule.id, rule.onFail]))
  const quarantined: Rejected[] = []
  const dropped = new Map<string, number[]>()
  for (const rejected of admitted.rejected) {
    const first = rejected.failures[0]
    const action = actions.get(first?.rule ?? '')
    if (action === 'fail')
      throw new AdflowError(
        'DATA_REJECTED',
        `rule ${first?.rule} does not hold for record ${rejected.ordinal + 1} of ${chunk.origin} [${chunk.range.from}, ${chunk.range.to}): ${first?.reason}`,
        { hint: 'the rule says `on_fail: fail`; nothing of this range was loaded', details: { rule: first?.rule } },
      )
    if (action === 'drop' && rejected.row !== undefined) {
      const rows = dropped.get(first?.rule ?? '') ?? []
      rows.push(rejected.row)
      dropped.set(first?.rule ?? '', rows)
    } else quarantined.push(rejected)
  }
  return { quarantined, dropped }
}

async function askBatchRules({ session, pipeline, baseline }: RefineOptions): Promise<Refined['warnings']> {
  const warnings: { rule: string; message: string }[] = []
  for (const rule of pipeline.batchRules) {
    const sql = rule.sql.replaceAll('$baseline', baseline === undefined ? 'NULL::DOUBLE' : `${baseline}::DOUBLE`)
    const [row] = await session.rows(sql)
    if (row?.['ok'] !== false) continue
    const text = `batch rule ${rule.id} does not hold: expected ${rule.expects}, found ${row['seen']}`
    if (rule.onFail === 'fail')
      throw new AdflowError('DATA_REJECTED', text, {
        hint: 'the rule says `on_fail: fail`; nothing of this batch was loaded',
        details: { rule: rule.id },
      })
    warnings.push({ rule: rule.id, message: text })
  }
  return warnings
}

async function countWarned({ session, pipeline }: RefineOptions): Promise<Record<string, number>> {
  if (pipeline.warnRules.length === 0) return {}
  const counts = pipeline.warnRules.map(
    (rule, index) => `count(*) FILTER (WHERE (${rule.check}\n) IS FALSE) AS w${index}`,
  )
  const [row] = await session.rows(`SELECT ${counts.join(', ')} FROM (${pipeline.base.sql})`)
  const warned = pipeline.warnRules.map((rule, index) => [rule.id, Number(row?.[`w${index}`] ?? 0)] as const)
  return Object.fromEntries(warned.filter(([, count]) => count > 0))
}

/**
 * Closes the books of the batch: every record of the chunk, numbered by the extractor's own count, must be in exactly one
 * of the sets that were counted where they arose. Records that are not in the table have the numbers after its rows.
 */
async function balance(
  chunk: Chunk,
  admitted: Admitted,
  verdicts: Verdicts,
  chain: ChainResult,
  { session }: RefineOptions,
): Promise<{ counts: BatchCounts; sums: BatchSums }> {
  const read = chunk.records + chunk.refused.length
  const outside = read - admitted.rows
  const droppedRows = [...verdicts.dropped.values()].flat()
  const sumOf = (select: string) => `(SELECT coalesce(sum(hash(i::BIGINT)), 0)::HUGEINT FROM (${select}))`
  const [row] = await session.rows(
    `SELECT ${sumOf(`SELECT range AS i FROM range(${read})`)} AS read,
      ${sumOf(`SELECT rowid AS i FROM ${ROWS_VIEW} WHERE NOT __ok`)} AS bad,
      ${sumOf(`SELECT range AS i FROM range(${admitted.rows}, ${read})`)} AS outside,
      ${sumOf(`SELECT unnest([${droppedRows.join(', ')}]::BIGINT[]) AS i`)} AS dropped`,
  )
  const big = (name: string) => BigInt(String(row?.[name] ?? 0))
  const of = (as: Drop['as']) => chain.drops.filter((drop) => drop.as === as)
  const sum = (drops: readonly Drop[]): Tally => ({
    count: drops.reduce((total, drop) => total + drop.tally.count, 0),
    sum: drops.reduce((total, drop) => total + drop.tally.sum, 0n),
  })
  const late = sum(of('quarantined'))
  const filtered = sum(of('filtered'))
  const deduplicated = sum(of('deduplicated'))
  const bad = admitted.rows - admitted.passed
  const quarantinedCount = bad - droppedRows.length + outside + late.count
  const quarantinedSum = big('bad') - big('dropped') + big('outside') + late.sum
  const missing = read - (chain.out.count + quarantinedCount + filtered.count + droppedRows.length + deduplicated.count)
  const sums = {
    read: big('read'),
    quarantined: quarantinedSum,
    filtered: filtered.sum + big('dropped'),
    deduplicated: deduplicated.sum,
    out: chain.out.sum,
  }
  const difference = sums.read - sums.quarantined - sums.filtered - sums.deduplicated - sums.out
  if (missing !== 0 || difference !== 0n)
    throw new AdflowError(
      'UNACCOUNTED',
      `the books of ${chunk.range.lane} [${chunk.range.from}, ${chunk.range.to}) do not close: ${missing} of ${read} records unaccounted for${missing === 0 ? ' by count, but the digests differ' : ''}`,
      { hint: 'nothing of this batch was loaded; please report the job file and the range' },
    )
  return {
    counts: {
      read,
      quarantined: byRule(chunk, verdicts, of('quarantined')),
      filtered: {
        ...Object.fromEntries([...verdicts.dropped].map(([rule, rows]) => [rule, rows.length])),
        ...Object.fromEntries(
          of('filtered')
            .filter((drop) => drop.tally.count > 0)
            .map((drop) => [drop.step, drop.tally.count]),
        ),
      },
      deduplicated: deduplicated.count,
      warned: {},
    },
    sums: Object.fromEntries(
      Object.entries(sums).map(([name, value]) => [name, String(value)]),
    ) as unknown as BatchSums,
  }
}

function byRule(chunk: Chunk, verdicts: Verdicts, late: readonly Drop[]): Record<string, number> {
  const counts = new Map<string, number>()
  const add = (rule: string, count: number) => counts.set(rule, (counts.get(rule) ?? 0) + count)
  for (const { failures } of verdicts.quarantined) add(failures[0]?.rule ?? CONTRACT_RULES.type, 1)
  for (const { reason } of chunk.refused) add(refusedRule(reason), 1)
  for (const drop of late) add(drop.step, drop.tally.count)
  return Object.fromEntries(counts)
}

function lateRejections(drops: readonly Drop[], removed: readonly number[]): Rejected[] {
  return drops
    .filter((drop) => drop.as === 'quarantined')
    .flatMap((drop) => {
      const ordinals = toOrdinals(drop.rows, removed)
      return drop.rows.map((row, index) => ({
        ordinal: ordinals[index] as number,
        row,
        failures: [{ rule: drop.step, field: drop.field, reason: drop.reason }],
      }))
    })
}
