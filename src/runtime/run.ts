/** One run of a job: open, pay what is owed, read the sources to their end, close the books. */

import pLimit from 'p-limit'
import type { Logger } from 'pino'
import type { Positions, Receipt } from '../core/contracts.ts'
import { mayGoOn } from '../core/durable-copy.ts'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import type { StatePlace } from '../core/state-place.ts'
import { whoIsThis } from '../core/who.ts'
import { type Ledger, openLedger } from '../lineage/ledger.ts'
import { Batches } from './batches.ts'
import type { PlannedBatch } from './checkpoint-slot.ts'
import { type Checkpoints, openCheckpoints } from './checkpoints.ts'
import { conclude, failed } from './conclusion.ts'
import { addConsumers, type Distribution } from './distribution.ts'
import { divide } from './divide.ts'
import { warnOfForgotten } from './forgotten-spools.ts'
import { GroupSaver } from './group-saver.ts'
import { type HeldJob, holdJob } from './hold.ts'
import { pastSaver } from './memory-saver.ts'
import { OpenGaps, openGapsOf } from './open-gaps.ts'
import { Outbox } from './outbox.ts'
import { Phases } from './phases.ts'
import { Pins } from './pins.ts'
import { resume } from './resume.ts'
import { RunLineage } from './run-lineage.ts'
import { SessionPool } from './session-pool.ts'
import { folderHolder } from './shared-folder.ts'
import { admitSlot, type SlotRun, type SlotTicket } from './slot.ts'
import { Spool } from './spool.ts'
import { emptyStateFolders } from './state-dir.ts'
import { daemonLease } from './state-home.ts'
import { Store } from './store.ts'
import { addWarning, emptySummary, forgetRepaid, type RunSummary } from './summary.ts'
import { Upkeep } from './upkeep.ts'
import { aheadOf } from './whole-chunks.ts'
import { openWorkshop, type Workshop } from './workshop.ts'

export interface RunOptions {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  /** The command line, for the ledger and for whoever finds the job locked. */
  readonly command: string
  readonly version: string
  /** Ids of the sources to read; undefined: all. */
  readonly only?: readonly string[]
  /** Only files modified in [from, to), milliseconds since the epoch. */
  readonly modified?: { readonly from?: number; readonly to?: number }
  /** Aborted by the first signal: nothing new is read, what is under way is finished. */
  readonly drain?: AbortSignal
  readonly round?: RoundLimits
  readonly observer?: RunObserver
  /** Read these ranges instead of going on from the checkpoint, which stays as it is. */
  readonly past?: PastRanges
  /** Hands over what waits for consumers. Without it all of it is owed. */
  readonly distribution?: Distribution
  /** The run is for a scheduled time. */
  readonly slot?: SlotTicket
  /** Where the daemon that has started it shares its state with others. */
  readonly daemons?: StatePlace
  /** Where the run ends. Default: as the job says. */
  readonly until?: 'now' | 'forever'
}

/** Ranges that lie outside of what a run reads on its own: for each lane they hang together. */
export interface PastRanges {
  /** How the lanes are entered. */
  readonly sources: Readonly<Record<string, Positions>>
  readonly planned: readonly PlannedBatch[]
}

/** What a run says about its sources beside the job. */
export interface RoundLimits {
  /** Sources that are read at the same time. */
  readonly parallel?: number
  /** Longest that each source is read, in milliseconds. */
  readonly limitMs?: number
}

export interface RunObserver {
  /** true: sources are asked how much they have, where that needs no time-out. */
  readonly survey?: boolean
  /** Reading begins. The summary is kept up to date. */
  began?(summary: RunSummary): void
  batchClosed?(summary: RunSummary): void
}

/** Never rejects for what happens to data: the summary says it, with the exit code. Rejects with JOB_INVALID, JOB_LOCKED,
 *  STATE_* and other errors that come before the run has begun. */
export async function runJob(options: RunOptions): Promise<RunSummary> {
  if (options.past === undefined) await divide({ ...options, run: runUnderLock })
  const held = await holdJob(options)
  try {
    return await runUnderLock(options, held, held.run)
  } finally {
    await held.close()
  }
}

/** The same for who holds the job already. */
export async function runUnderLock(
  options: RunOptions,
  { state, lost }: Pick<HeldJob, 'state' | 'lost'>,
  run: string,
): Promise<RunSummary> {
  const { slot, job } = options
  const lease = slot?.inServer === true ? leaseOf(options, job) : undefined
  const newest = lease === undefined ? undefined : async () => (await folderHolder(lease))?.epoch ?? 0
  const had = slot === undefined ? undefined : await admitSlot(slot, state.ledger, newest)
  if (had !== undefined) return repeatedSlot(options, had)
  const checkpoints = await openCheckpoints(state.path, options.job.name)
  // Before anything is touched: where the ledger is damaged, nothing may change.
  const ledger = await openLedger(state.ledger, { run })
  try {
    await emptyStateFolders(state)
    return await inLedger(options, { state, lost, checkpoints, ledger, run })
  } finally {
    await ledger.close()
  }
}

/** By which the daemons know who leads: where they share their state, or the job has its own. */
function leaseOf({ daemons }: RunOptions, { state, baseDir }: Job): ReturnType<typeof daemonLease> | undefined {
  if (daemons !== undefined) return daemonLease(daemons)
  return state === undefined ? undefined : daemonLease(state, baseDir)
}

/** A daemon died after the run and before it could book it: the run stands for itself. */
function repeatedSlot({ job, slot }: RunOptions, { run, status, exit }: SlotRun): RunSummary {
  const summary = emptySummary(
    run,
    job.name,
    job.load.map(({ id }) => id),
    new Date(),
  )
  return { ...summary, status, exit, warnings: [`${slot?.slot} has had its run: nothing was done`] }
}

async function inLedger(options: RunOptions, held: HeldParts): Promise<RunSummary> {
  const { job, log } = options
  const { state, checkpoints, ledger, run } = held
  const started = new Date()
  const first = ledger.head.seq === 0
  const summary = emptySummary(
    run,
    job.name,
    job.load.map(({ id }) => id),
    started,
  )
  const warn = (text: string) => {
    addWarning(summary, redact(text))
    log.warn(text)
  }
  const pins = new Pins(state.pins, state.temp)
  const evolved = evolvedOf(checkpoints)
  const workshop = await openWorkshop({
    ...options,
    state,
    ...evolved,
    locate: (file, fetch) => pins.keep(file, fetch),
    copies: pins.copies,
    ahead: aheadOf({ ...options, forever: isForever(options) }, checkpoints.current),
  }).catch(async (error: unknown) => {
    await pins.discard()
    throw error
  })
  try {
    const pin = await pins.save({ job, adflow: options.version, engine: workshop.engine.version, ...evolved })
    await ledger.append([
      {
        type: 'run_started',
        run,
        job: job.name,
        command: redact(options.command),
        who: whoIsThis(),
        version: options.version,
        epoch: checkpoints.current.epoch,
        pin,
        ...(options.slot === undefined ? {} : { slot: options.slot.slot }),
      },
    ])
    const lineage = await RunLineage.start({ ...options, state, run, workshop, warn })
    if (lineage !== undefined) ledger.watch((events) => lineage.take(events))
    if (checkpoints.fallback !== undefined) {
      const { slot, reason, generation } = checkpoints.fallback
      warn(
        `checkpoint slot ${slot} is damaged (${reason}): going on from generation ${generation}; the stores refuse what they have`,
      )
      await ledger.append([{ type: 'checkpoint_fallback', slot, reason, generation }])
    }
    if (ledger.cut !== undefined) {
      const { segment, byte, bytes } = ledger.cut
      warn(`the ledger ended in a torn write: ${bytes} bytes of ${segment} from ${byte} were set aside`)
      await ledger.append([{ type: 'ledger_cut', segment, byte, bytes }])
    }
    try {
      await work(options, { ...held, first, summary, workshop, warn })
    } catch (error) {
      failed(summary, error)
      log.error({ err: error }, redact(error instanceof Error ? error.message : String(error)))
    }
    summary.seconds = (Date.now() - started.getTime()) / 1000
    await ledger.append([
      {
        type: 'run_ended',
        run,
        status: summary.status,
        exit: summary.exit,
        ...(summary.error === undefined ? {} : { code: summary.error.code, message: summary.error.message }),
      },
    ])
    await lineage?.end(summary)
    return summary
  } finally {
    await workshop.close()
  }
}

interface HeldParts extends Pick<HeldJob, 'state' | 'lost'> {
  readonly checkpoints: Checkpoints
  readonly ledger: Ledger
  readonly run: string
}

interface RunParts extends HeldParts {
  /** Nothing has happened to the job before. */
  readonly first: boolean
  readonly summary: RunSummary
  readonly workshop: Workshop
  warn(text: string): void
}

async function work(options: RunOptions, parts: RunParts): Promise<void> {
  const outbox = await Outbox.open(parts.state, options.job)
  try {
    await loadAndDistribute(options, parts, outbox)
  } finally {
    await outbox?.close()
  }
}

async function loadAndDistribute(options: RunOptions, parts: RunParts, outbox: Outbox | undefined): Promise<void> {
  const { job, past } = options
  const { state, checkpoints, ledger, summary, workshop, warn } = parts
  const forever = isForever(options)
  const phases = new Phases()
  const saver = past === undefined ? new GroupSaver(checkpoints) : pastSaver(checkpoints.current, past)
  await warnOfForgotten(job, state, warn)
  const stores = await openStores(options, parts)
  // Told to stop before the stores have answered: nothing is read, so nothing needs to be known of them.
  if (past === undefined && options.drain?.aborted !== true)
    await resume({ state, stores, checkpoints, saver, workshop, outbox, warn })
  for (const store of stores) await store.pay(workshop.session)

  const oneAtATime = pLimit(1)
  const handOver = async () => {
    if (outbox === undefined || options.distribution === undefined) return
    const planned = [...checkpoints.current.planned, ...saver.state.planned]
    const signal = options.drain ?? new AbortController().signal
    const after = await options.distribution.workOff({ ...options, state, outbox, ledger, planned, signal })
    summary.consumers = addConsumers(summary.consumers, after)
    for (const [id, { dead }] of Object.entries(after))
      if (dead > 0) addWarning(summary, `${dead} rows for ${id} became dead letters: see \`adflow dlq list\``)
  }
  const distribute = () => oneAtATime(handOver)
  const gaps = new OpenGaps(
    { saver, ledger, lasting: past === undefined, closed: (gap) => forgetRepaid(summary, gap) },
    parts.first || past !== undefined ? [] : await openGapsOf(checkpoints, state),
  )
  const batches = new Batches({
    ...options,
    forever,
    state,
    ledger,
    saver,
    gaps,
    stores,
    workshop,
    summary,
    phases,
    warn,
    outbox,
    makeRoom: distribute,
  })
  if (past === undefined) workshop.references.keepFresh({ warn, failed: (error) => batches.fail(error) })
  const lose = () => batches.fail(parts.lost.reason)
  parts.lost.addEventListener('abort', lose, { once: true })
  if (parts.lost.aborted) lose()
  const upkeep = forever ? await startUpkeep(options, parts, stores, { batches, distribute, phases }) : undefined
  let failure: unknown
  try {
    await batches.readAll()
  } catch (error) {
    failure = error
  }
  await upkeep?.stop()
  await saver.idle()
  parts.lost.removeEventListener('abort', lose)
  if (failure === undefined) mayGoOn(state.path)
  summary.timing = phases.timings()
  for (const store of stores) {
    const line = summary.stores[store.id]
    if (line === undefined) continue
    line.loaded = store.loaded
    line.owed = store.spool.rows
    if (store.down !== undefined) line.reason = redact(store.down.message)
    await store.loader.finish?.({
      engine: workshop.session,
      complete:
        failure === undefined &&
        store.spool.size === 0 &&
        options.drain?.aborted !== true &&
        options.only === undefined &&
        options.modified === undefined &&
        past === undefined &&
        summary.gaps.every(({ optional }) => optional),
    })
  }
  await distribute()
  if (failure !== undefined) throw failure
  conclude({ job, summary, stores, interrupted: options.drain?.aborted === true, forever, warn })
}

function isForever({ job, past, until }: RunOptions): boolean {
  return past === undefined && (until === undefined ? job.stream.forever : until === 'forever')
}

async function startUpkeep(
  { job, log, distribution }: RunOptions,
  { state, summary, workshop }: RunParts,
  stores: readonly Store[],
  {
    batches,
    distribute,
    phases,
  }: {
    readonly batches: Batches
    readonly distribute: () => Promise<void>
    readonly phases: Phases
  },
): Promise<Upkeep> {
  const sessions = await SessionPool.open(workshop.engine, stores.length, workshop.pipeline.secrets)
  return Upkeep.start({
    stores,
    sessions,
    retryMs: job.retry.initialMs,
    reportMs: job.stream.reportMs,
    folder: state.path,
    summary,
    phases,
    log,
    distribute: job.distribute.length > 0 && distribution !== undefined ? distribute : undefined,
    failed: (error) => batches.fail(error),
  })
}

async function openStores(options: RunOptions, { state, ledger, workshop }: RunParts): Promise<Store[]> {
  const { job, drain } = options
  const stores: Store[] = []
  for (const { config, loader, unavailable } of workshop.loaders) {
    const spool = new Spool(state.spoolOf(config.id))
    await spool.open()
    const store = new Store({
      config,
      loader,
      spool,
      job,
      signal: drain ?? new AbortController().signal,
      timeoutMs: isForever(options) ? job.stream.storeTimeoutMs : undefined,
      paid: (id, batch, receipt) =>
        ledger.append([{ type: 'store_paid', token: batch.batch, loader: id, ...paid(receipt) }]),
    })
    if (unavailable !== undefined) store.down = unavailable
    else await store.open(workshop.session, workshop.pipeline.outputs.get(store.input)?.relation.columns ?? [])
    stores.push(store)
  }
  return stores
}

function paid({ rows, content }: Receipt): Pick<Receipt, 'rows' | 'content'> {
  return { rows, ...(content === undefined ? {} : { content }) }
}

function evolvedOf(checkpoints: Checkpoints): { evolved?: Readonly<Record<string, string>> } {
  const { evolved } = checkpoints.current
  return evolved === undefined ? {} : { evolved }
}
