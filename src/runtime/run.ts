/** One run of a job: open, pay what is owed, read the sources to their end, close the books. */

import type { Logger } from 'pino'
import { AdflowError, ERROR_CODES, type ErrorCode, EXIT } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import { type Ledger, openLedger } from '../lineage/ledger.ts'
import { Batches } from './batches.ts'
import { type Checkpoints, openCheckpoints } from './checkpoints.ts'
import { addConsumers, consumersOwed, type Distribution } from './distribution.ts'
import { GroupSaver } from './group-saver.ts'
import { lockJob } from './lock.ts'
import { Outbox } from './outbox.ts'
import { Pins } from './pins.ts'
import { resume } from './resume.ts'
import { RunLineage } from './run-lineage.ts'
import { Spool } from './spool.ts'
import { emptyStateFolders, openStateDir, type StateDir } from './state-dir.ts'
import { Store } from './store.ts'
import { emptySummary, type GapSummary, type RunSummary } from './summary.ts'
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
  readonly observer?: RunObserver
  /** Hands over what waits for consumers. Without it all of it is owed. */
  readonly distribution?: Distribution
}

export interface RunObserver {
  surveyed?(total: { readonly bytesLeft: number; readonly lanes: number }): void
  batchClosed?(summary: RunSummary): void
}

/** Never rejects for what happens to data: the summary says it, with the exit code. Rejects with JOB_INVALID, JOB_LOCKED,
 *  STATE_* and other errors that come before the run has begun. */
export async function runJob(options: RunOptions): Promise<RunSummary> {
  const state = await openStateDir(options.stateDir, options.job.name)
  const lock = await lockJob(state.path, { command: options.command, run: uuidv7() })
  try {
    const checkpoints = await openCheckpoints(state.path, options.job.name)
    const run = lock.run
    // Before anything is touched: where the ledger is damaged, nothing may change.
    const ledger = await openLedger(state.ledger, { run })
    try {
      await emptyStateFolders(state)
      return await inLedger(options, state, checkpoints, ledger, run)
    } finally {
      await ledger.close()
    }
  } finally {
    await lock.close()
  }
}

async function inLedger(
  options: RunOptions,
  state: StateDir,
  checkpoints: Checkpoints,
  ledger: Ledger,
  run: string,
): Promise<RunSummary> {
  const { job, log } = options
  const started = new Date()
  const summary = emptySummary(
    run,
    job.name,
    job.load.map(({ id }) => id),
    started,
  )
  const warn = (text: string) => {
    summary.warnings.push(redact(text))
    log.warn(text)
  }
  const pins = new Pins(state.pins, state.temp)
  const evolved = evolvedOf(checkpoints)
  const workshop = await openWorkshop({ ...options, state, ...evolved, locate: (file) => pins.keep(file) }).catch(
    async (error: unknown) => {
      await pins.discard()
      throw error
    },
  )
  try {
    const pin = await pins.save({ job, adflow: options.version, engine: workshop.engine.version, ...evolved })
    await ledger.append([
      {
        type: 'run_started',
        run,
        job: job.name,
        command: redact(options.command),
        version: options.version,
        epoch: checkpoints.current.epoch,
        pin,
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
      await work(options, { state, checkpoints, ledger, run, summary, workshop, warn })
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

interface RunParts {
  readonly state: StateDir
  readonly checkpoints: Checkpoints
  readonly ledger: Ledger
  readonly run: string
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
  const { job } = options
  const { state, checkpoints, ledger, summary, workshop, warn } = parts
  const saver = new GroupSaver(checkpoints)
  const stores = await openStores(options, parts)
  await resume({ state, stores, checkpoints, saver, workshop, warn })
  for (const store of stores) await store.pay(workshop.session)

  const distribute = async () => {
    if (outbox === undefined || options.distribution === undefined) return
    const { planned } = saver.state
    const signal = options.drain ?? new AbortController().signal
    const after = await options.distribution.workOff({ ...options, state, outbox, ledger, planned, signal })
    summary.consumers = addConsumers(summary.consumers, after)
    for (const [id, { dead }] of Object.entries(after))
      if (dead > 0) summary.warnings.push(`${dead} rows for ${id} became dead letters: see \`adflow dlq list\``)
  }
  const batches = new Batches({
    ...options,
    state,
    ledger,
    saver,
    stores,
    workshop,
    summary,
    warn,
    outbox,
    makeRoom: distribute,
  })
  await batches.survey()
  let failure: unknown
  try {
    await batches.readAll()
  } catch (error) {
    failure = error
  }
  await saver.idle()
  for (const store of stores) {
    const owed = store.spool.owed
    const line = summary.stores[store.id]
    if (line === undefined) continue
    line.loaded = store.loaded
    line.owed = owed.reduce((total, batch) => total + batch.rows, 0)
    if (store.down !== undefined) line.reason = redact(store.down.message)
    await store.loader.finish?.({
      engine: workshop.session,
      complete:
        failure === undefined &&
        owed.length === 0 &&
        options.drain?.aborted !== true &&
        options.only === undefined &&
        options.modified === undefined &&
        summary.gaps.every(({ optional }) => optional),
    })
  }
  await distribute()
  if (failure !== undefined) throw failure
  conclude(options, summary, stores, job)
}

async function openStores({ job, drain }: RunOptions, { state, ledger, workshop }: RunParts): Promise<Store[]> {
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
      paid: (id, batch, receipt) =>
        ledger.append([{ type: 'store_paid', token: batch.batch, loader: id, rows: receipt.rows }]),
    })
    if (unavailable !== undefined) store.down = unavailable
    else await store.open(workshop.session, workshop.pipeline.outputs.get(store.input)?.relation.columns ?? [])
    stores.push(store)
  }
  return stores
}

function evolvedOf(checkpoints: Checkpoints): { evolved?: Readonly<Record<string, string>> } {
  const { evolved } = checkpoints.current
  return evolved === undefined ? {} : { evolved }
}

const STATUS_OF: Partial<Record<ErrorCode, string>> = {
  DATA_REJECTED: 'rejected',
  NOTHING_ACCEPTED: 'rejected',
  STORE_OWED: 'owed',
  CONSUMER_OWED: 'owed',
}

function failed(summary: RunSummary, error: unknown): void {
  const known = error instanceof AdflowError ? error : undefined
  const code = known?.code ?? 'UNEXPECTED'
  summary.status = STATUS_OF[code] ?? 'failed'
  summary.exit = ERROR_CODES[code].exit
  summary.error = {
    code,
    message: redact(error instanceof Error ? error.message : String(error)),
    ...(known?.hint === undefined ? {} : { hint: redact(known.hint) }),
  }
}

/** What the run has come to, the gravest first. */
function conclude(options: RunOptions, summary: RunSummary, stores: readonly Store[], job: Job): void {
  const owing = stores.filter((store) => store.spool.owed.length > 0 || store.down !== undefined)
  const grave = gravest(summary.gaps)
  for (const rule of job.batchRules) {
    if (
      rule.kind !== 'rows' ||
      ((rule.min ?? 0) <= summary.passed && summary.passed <= (rule.max ?? Number.POSITIVE_INFINITY))
    )
      continue
    const text = `rule ${rule.id} does not hold: ${summary.passed} rows passed, expected ${rule.min ?? 0} to ${rule.max ?? 'any number'}`
    if (rule.onFail === 'fail')
      throw new AdflowError('DATA_REJECTED', text, { hint: 'the rows are loaded; the run is marked as rejected' })
    summary.warnings.push(text)
    options.log.warn(text)
  }
  if (summary.read > 0 && summary.passed === 0 && summary.quarantined === summary.read)
    throw new AdflowError(
      'NOTHING_ACCEPTED',
      `all ${summary.read} records were quarantined (${Object.keys(summary.quarantined_by).join(', ')})`,
      {
        hint: 'see them with `adflow query "select rule, reason, raw from quarantine limit 5"`; the source or the contract is wrong',
      },
    )
  if (owing.some((store) => !store.optional)) throw storesOwed(owing)
  const waiting = Object.entries(summary.consumers).filter(([, { owed }]) => owed > 0)
  const drained = options.drain?.aborted === true
  if (!drained && waiting.some(([id]) => job.distribute.some((consumer) => consumer.id === id && !consumer.optional)))
    throw consumersOwed(waiting)
  if (grave !== undefined) {
    summary.status = 'gaps'
    summary.exit = ERROR_CODES[grave.code as keyof typeof ERROR_CODES]?.exit ?? EXIT.rejected
    summary.error = { code: grave.code as keyof typeof ERROR_CODES, message: grave.message }
    return
  }
  if (drained) summary.status = 'interrupted'
  else if (waiting.length > 0) {
    summary.status = 'owed'
    summary.warnings.push(consumersOwed(waiting).message)
  } else if (owing.length > 0) {
    summary.status = 'owed'
    summary.warnings.push(redact(storesOwed(owing).message))
  }
}

/** What needs people before what another run may mend; the same whatever the order in which lanes were read. */
function gravest(gaps: readonly GapSummary[]): { readonly code: string; readonly message: string } | undefined {
  const rank = ({ code }: GapSummary) => (ERROR_CODES[code as ErrorCode]?.retryable === true ? 1 : 0)
  const [first, ...others] = gaps
    .filter((gap) => !gap.optional)
    .sort((a, b) => rank(a) - rank(b) || a.source.localeCompare(b.source) || a.lane.localeCompare(b.lane))
  if (first === undefined || others.length === 0) return first
  return {
    code: first.code,
    message: `${first.message} (and ${others.length} more ${others.length === 1 ? 'gap' : 'gaps'})`,
  }
}

function storesOwed(owing: readonly Store[]): AdflowError {
  const owed = owing.map(({ id, spool, down }) => {
    const rows = spool.owed.reduce((total, batch) => total + batch.rows, 0)
    const batches = spool.owed.length === 1 ? 'batch' : 'batches'
    if (spool.owed.length === 0) return `${id} is down, and owed nothing: ${down?.message}`
    return `${id} is owed ${rows} rows in ${spool.owed.length} ${batches}: ${down?.message ?? 'the run ended before they were paid'}`
  })
  const hints = new Set(owing.flatMap(({ down }) => down?.hint ?? []))
  return new AdflowError('STORE_OWED', owed.join('; '), {
    hint: ['what is owed waits in the spool, and the next run pays it', ...hints].join('; '),
  })
}
