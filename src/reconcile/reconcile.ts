/**
 * Compares the stores of a job with its sources, or with one another, at the position that the ledger has now; heals what differs
 * when it is asked to. Without a heal nothing is written, neither to a store nor to the state of the job.
 */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { AdflowError, EXIT, localIoError } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import type { Job, JobLoader } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { type Ledger, openLedger } from '../lineage/ledger.ts'
import { openBrowser } from '../runtime/browse.ts'
import type { CheckpointState } from '../runtime/checkpoint-slot.ts'
import { openCheckpoints } from '../runtime/checkpoints.ts'
import { type HeldJob, holdJob } from '../runtime/hold.ts'
import { type StateDir, stateDirOf } from '../runtime/state-dir.ts'
import { comparePair } from './compare-pair.ts'
import type { KindCounts } from './differences.ts'
import type { HealMode } from './heal.ts'
import { type LedgerSnapshot, takeSnapshot } from './known-batches.ts'
import { type ComparisonReport, outFormat, type Reconciliation, writeRows } from './report.ts'
import type { Wishes } from './scope.ts'

export interface ReconcileOptions {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  readonly command: string
  readonly who: string
  /** Only what came from this source. */
  readonly source?: string
  /** Compare this store with `against`, instead of the sources. */
  readonly store?: string
  readonly against?: string
  readonly wishes: Wishes
  readonly compare: readonly ('count' | 'digest')[]
  readonly heal: HealMode | 'none'
  /** Asked before rows are changed or removed. */
  readonly confirm: (store: string, found: KindCounts) => Promise<boolean>
  /** File for all differing rows. */
  readonly out?: string
  /** Rows in the report. */
  readonly limit: number
  readonly signal: AbortSignal
}

/** What one comparison needs besides its two sides. */
export interface Situation {
  readonly options: ReconcileOptions
  readonly snapshot: LedgerSnapshot
  readonly checkpoint: CheckpointState
  /** Open while rows are healed. */
  readonly ledger: Ledger | undefined
  readonly run: string
}

export async function reconcile(options: ReconcileOptions): Promise<Reconciliation> {
  const { job, heal, out } = options
  if (out !== undefined) outFormat(out)
  const pairs = pairsOf(options)
  const state = stateDirOf(options.stateDir, job.name)
  if (!existsSync(state.path))
    throw new AdflowError(
      'STATE_MISSING',
      `there is nothing to reconcile: job ${job.name} has no state in ${state.path}`,
      {
        hint: 'the job has not run yet, or --state-dir names another folder',
      },
    )
  const held = await holdIfFree(options)
  let ledger: Ledger | undefined
  try {
    const snapshot = await snapshotOf(options, state)
    const checkpoint = (await openCheckpoints(state.path, job.name)).current
    const run = held?.run ?? uuidv7()
    if (heal !== 'none') ledger = await openLedger(state.ledger, { run })
    const situation: Situation = { options, snapshot, checkpoint, ledger, run }
    const comparisons = await inScratch(async (scratch) => {
      const done: ComparisonReport[] = []
      const parts = pairs.map((_, index) => join(scratch, `${index}.parquet`))
      for (const [index, { left, right }] of pairs.entries())
        done.push(await comparePair(situation, left, right, out === undefined ? undefined : parts[index]))
      if (out !== undefined) await writeRows(parts, out, scratch)
      return done
    })
    const differ = comparisons.some(({ clean }) => !clean)
    const unreadable = comparisons.some((comparison) => comparison.unreadable.length > 0)
    const exit = differ ? EXIT.differences : unreadable ? EXIT.rejected : EXIT.done
    return { schema_version: 1, job: job.name, clean: exit === EXIT.done, exit, comparisons }
  } finally {
    await ledger?.close()
    await held?.close()
  }
}

async function inScratch<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'adflow-reconcile-')).catch((error: unknown) => {
    throw localIoError(error, `make a temporary folder in ${tmpdir()}`)
  })
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** While a run holds the job, what can be read is compared all the same; a heal waits for nobody. */
async function holdIfFree(options: ReconcileOptions): Promise<HeldJob | undefined> {
  const { heal } = options
  try {
    return await holdJob(options)
  } catch (error) {
    if (heal !== 'none' || !(error instanceof AdflowError) || error.code !== 'JOB_LOCKED') throw error
    return undefined
  }
}

async function snapshotOf(
  { job, registry, log, stateDir }: ReconcileOptions,
  state: StateDir,
): Promise<LedgerSnapshot> {
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    return await takeSnapshot(browser.session, job, state.path)
  } finally {
    browser.close()
  }
}

/** undefined on the left: the sources. */
function pairsOf(
  options: ReconcileOptions,
): readonly { readonly left: JobLoader | undefined; readonly right: JobLoader }[] {
  const { job, source, store, against } = options
  const find = (id: string) => {
    const found = job.load.find((loader) => loader.id === id)
    if (found !== undefined) return found
    throw new AdflowError('USAGE', `the job has no store ${id}`, {
      hint: `stores: ${job.load.map((loader) => loader.id).join(', ')}`,
    })
  }
  if (source !== undefined && store !== undefined)
    throw new AdflowError(
      'USAGE',
      '--source compares a source with stores, --store one store with another: give one of them',
    )
  if (source !== undefined && !job.extract.some(({ id }) => id === source))
    throw new AdflowError('USAGE', `the job has no source ${source}`, {
      hint: `sources: ${job.extract.map(({ id }) => id).join(', ')}`,
    })
  if (store === undefined)
    return (against === undefined ? job.load : [find(against)]).map((right) => ({ left: undefined, right }))
  const left = find(store)
  const others = job.load.filter(({ id }) => id !== store)
  if (against === undefined && others.length !== 1)
    throw new AdflowError('USAGE', `--store ${store} needs --against`, {
      hint:
        others.length === 0
          ? 'the job has only this store'
          : `the other stores: ${others.map(({ id }) => id).join(', ')}`,
    })
  const right = find(against ?? others[0]?.id ?? '')
  if (left.id === right.id) throw new AdflowError('USAGE', `${store} is the same store on both sides`)
  if ((left.input ?? 'main') !== (right.input ?? 'main'))
    throw new AdflowError(
      'USAGE',
      `${left.id} reads ${left.input ?? 'main'} and ${right.id} reads ${right.input ?? 'main'}: they hold different rows`,
    )
  return [{ left, right }]
}
