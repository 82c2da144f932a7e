/**
 * Loads a part of the past: for the first time, or again where stores have lost it. The order is: plan (durable) → event
 * `backfill_started` → ranges → event `backfill_ended`. Killed anywhere, `resume` asks the ledger what of the plan is done; stores
 * refuse what they have. The checkpoint gives the backfill sequence numbers, and is left alone otherwise.
 */
import type { Logger } from 'pino'
import { AdflowError, ERROR_CODES, EXIT } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import { openLedger } from '../lineage/ledger.ts'
import { requireSoundLedger } from '../lineage/ledger-verify.ts'
import { openCheckpoints } from '../runtime/checkpoints.ts'
import { holdJob } from '../runtime/hold.ts'
import { emptyStateFolders, type StateDir } from '../runtime/state-dir.ts'
import {
  type BackfillHead,
  type BackfillItem,
  findBackfill,
  readPlan,
  saveHead,
  writeBackfill,
} from './backfill-file.ts'
import { planBackfill, type Selection } from './backfill-plan.ts'
import type { Rates } from './backfill-rates.ts'
import { type Outcome, workOff } from './backfill-work.ts'

export interface BackfillOptions {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  readonly command: string
  readonly version: string
  readonly who: string
  /** Aborted by the first signal: what is under way is finished, and the rest can be resumed. */
  readonly drain: AbortSignal
  readonly observer?: BackfillObserver
}

export interface BackfillObserver {
  started?(total: { readonly items: number; readonly bytes: number }): void
  done?(so: { readonly items: number; readonly bytes: number; readonly rows: number }): void
}

export interface BackfillReport {
  readonly schema_version: 1
  readonly job: string
  /** null: a dry run, or nothing to do. */
  readonly backfill: string | null
  /** `planned` · `nothing` · `done` · `paused` · `incomplete` · `failed`. */
  readonly status: string
  readonly exit: number
  readonly planned: Estimate
  /** What of it is loaded now; absent where nothing was to be loaded. */
  readonly done?: Outcome
  readonly unreadable: readonly { source: string; lane: string; from: string; code: string; message: string }[]
  /** Stores that have no place for batches of the past. */
  readonly without: readonly string[]
}

export interface Estimate {
  readonly first: number
  readonly restore: number
  readonly bytes: number
  readonly records: number
  /** By the last runs of the job; null: it has not run. */
  readonly seconds: number | null
  readonly stores: Readonly<Record<string, number>>
}

export async function startBackfill(
  options: BackfillOptions & { readonly selection: Selection; readonly recreate: boolean; readonly dryRun: boolean },
): Promise<BackfillReport> {
  const { job, dryRun } = options
  return locked(options, async (state, run) => {
    const { items, unreadable, without, rates } = await planBackfill({ ...options, state, signal: options.drain })
    const planned = estimateOf(items, rates)
    const about = { schema_version: 1 as const, job: job.name, planned, unreadable, without }
    if (dryRun) return { ...about, backfill: null, status: 'planned', exit: EXIT.done }
    if (items.length === 0) {
      const [first] = unreadable
      return { ...about, backfill: null, status: 'nothing', exit: first === undefined ? EXIT.done : exitOf(first.code) }
    }
    await reserve(state, job.name, items)
    const { first, restore, bytes, records } = planned
    const head = await writeBackfill(
      state,
      {
        id: run,
        job: job.name,
        created_at: new Date().toISOString(),
        who: options.who,
        command: redact(options.command),
        status: 'planned',
        first,
        restore,
        bytes,
        records,
      },
      items,
    )
    const done = await work(options, state, run, head, items)
    const exit = done.exit === EXIT.done && unreadable[0] !== undefined ? exitOf(unreadable[0].code) : done.exit
    return { ...about, backfill: head.id, status: done.status, exit, done: done.outcome }
  })
}

export async function resumeBackfill(options: BackfillOptions & { readonly id: string }): Promise<BackfillReport> {
  return locked(options, async (state, run) => {
    const head = await findBackfill(state, options.id)
    if (head.status === 'done' || head.status === 'cancelled')
      throw new AdflowError('USAGE', `backfill ${head.id} is ${head.status}: there is nothing to resume`, {
        hint: 'plan another one with `adflow backfill`; it finds what is missing now',
      })
    const items = await readPlan(state, head)
    const { status, exit, outcome } = await work(options, state, run, head, items)
    const planned = estimateOf(items, { recordsPerByte: 0, bytesPerSecond: undefined })
    return {
      schema_version: 1,
      job: options.job.name,
      backfill: head.id,
      status,
      exit,
      planned,
      done: outcome,
      unreadable: [],
      without: [],
    }
  })
}

/** What is loaded stays. @throws AdflowError USAGE where it is over already, JOB_LOCKED while it is being worked on */
export async function cancelBackfill(options: BackfillOptions & { readonly id: string }): Promise<BackfillHead> {
  return locked(options, async (state, run) => {
    const head = await findBackfill(state, options.id)
    if (head.status === 'done' || head.status === 'cancelled')
      throw new AdflowError('USAGE', `backfill ${head.id} is ${head.status} already`)
    const ledger = await openLedger(state.ledger, { run })
    try {
      const message = `by ${options.who}: ${redact(options.command)}`
      await ledger.append([{ type: 'backfill_ended', backfill: head.id, status: 'cancelled', rows: 0, message }])
    } finally {
      await ledger.close()
    }
    return saveHead(state, head, { status: 'cancelled' })
  })
}

async function work(
  options: BackfillOptions,
  state: StateDir,
  run: string,
  before: BackfillHead,
  items: readonly BackfillItem[],
): Promise<{ status: BackfillHead['status']; exit: number; outcome: Outcome }> {
  const head = await saveHead(state, before, { status: 'running', run })
  const { id: backfill, first, restore } = head
  const { who, drain } = options
  const command = redact(options.command)
  const append = async (event: Parameters<Awaited<ReturnType<typeof openLedger>>['append']>[0]) => {
    const ledger = await openLedger(state.ledger, { run })
    await ledger.append(event).finally(() => ledger.close())
  }
  await append([{ type: 'backfill_started', backfill, run, who, command, first, restore }])
  let outcome: Outcome
  try {
    outcome = await workOff({ ...options, state, backfill, items })
  } catch (error) {
    const message = redact(error instanceof Error ? error.message : String(error))
    await append([{ type: 'backfill_ended', backfill, status: 'failed', rows: 0, message }])
    await saveHead(state, head, { status: 'failed', message })
    throw error
  }
  const [left] = outcome.left
  const status = left !== undefined ? 'incomplete' : outcome.open > 0 ? 'paused' : 'done'
  const message = left === undefined ? {} : { message: redact(left.message) }
  await append([{ type: 'backfill_ended', backfill, status, rows: outcome.rows, ...message }])
  await saveHead(state, head, { status, ...message })
  const exit = left !== undefined ? exitOf(left.code) : outcome.open > 0 && !drain.aborted ? EXIT.tryAgain : EXIT.done
  return { status, exit, outcome }
}

async function locked<T>(options: BackfillOptions, act: (state: StateDir, run: string) => Promise<T>): Promise<T> {
  const held = await holdJob(options)
  const { state } = held
  try {
    // What is missing is asked of the ledger: where it is damaged, nothing may change.
    await requireSoundLedger(state.ledger)
    await emptyStateFolders(state)
    return await act(state, held.run)
  } finally {
    await held.close()
  }
}

/** Batches of the backfill get numbers that no later batch of a run gets. */
async function reserve(state: StateDir, job: string, items: readonly BackfillItem[]): Promise<void> {
  const checkpoints = await openCheckpoints(state.path, job)
  const { epoch, sequence, sources, planned, evolved, extra } = checkpoints.current
  const first = items.filter(({ kind }) => kind === 'first').length
  if (first === 0) return
  await checkpoints.save({
    epoch,
    sequence: String(BigInt(sequence) + BigInt(first)),
    sources,
    planned,
    ...(evolved === undefined ? {} : { evolved }),
    ...(extra === undefined ? {} : { extra }),
  })
}

function estimateOf(items: readonly BackfillItem[], { bytesPerSecond }: Rates): Estimate {
  const sum = (pick: (item: BackfillItem) => number) => items.reduce((total, item) => total + pick(item), 0)
  const bytes = sum((item) => item.bytes)
  const stores: Record<string, number> = {}
  for (const item of items) for (const id of item.stores) stores[id] = (stores[id] ?? 0) + 1
  return {
    first: items.filter(({ kind }) => kind === 'first').length,
    restore: items.filter(({ kind }) => kind === 'restore').length,
    bytes,
    records: sum((item) => item.records),
    seconds: bytesPerSecond === undefined ? null : Math.round((10 * bytes) / bytesPerSecond) / 10,
    stores,
  }
}

function exitOf(code: string): number {
  return ERROR_CODES[code as keyof typeof ERROR_CODES]?.exit ?? EXIT.rejected
}
