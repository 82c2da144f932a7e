/** `adflow distribute`: hands over what waits, without reading a source. */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import { AdflowError, type ErrorCode, EXIT } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { openLedger } from '../lineage/ledger.ts'
import { openCheckpoints } from '../runtime/checkpoints.ts'
import { type ConsumerSummary, consumersOwed } from '../runtime/distribution.ts'
import { holdJob } from '../runtime/hold.ts'
import { Outbox } from '../runtime/outbox.ts'
import { emptyStateFolders, stateDirOf } from '../runtime/state-dir.ts'
import { ConsumerState } from './consumer-state.ts'
import { type DistributeLimits, distribution } from './distributor.ts'

export interface DistributeOptions extends DistributeLimits {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  readonly command: string
  /** Aborted by the first signal: nothing new is sent, what is under way is finished. */
  readonly drain: AbortSignal
  /** Consumers to switch on again first; `who` is for the audit. */
  readonly switchOn: readonly string[]
  readonly who: string
}

export interface DistributeSummary {
  readonly schema_version: 1
  readonly run: string
  readonly job: string
  /** done · owed · interrupted. */
  readonly status: string
  exit: number
  readonly seconds: number
  readonly consumers: Readonly<Record<string, ConsumerSummary>>
  readonly error?: { readonly code: ErrorCode; readonly message: string; readonly hint?: string }
}

/** @throws AdflowError JOB_LOCKED, STATE_*, LOCAL_IO, and USAGE where the job distributes nothing or has not run. */
export async function distributeJob(options: DistributeOptions): Promise<DistributeSummary> {
  const { job, log, registry, stateDir, drain } = options
  requireConsumers(job, [...(options.only ?? []), ...options.switchOn])
  if (!existsSync(stateDirOf(stateDir, job.name).path))
    throw new AdflowError('USAGE', `the job ${job.name} has not run yet: ${stateDir} knows nothing of it`, {
      hint: 'run it first, or point --state-dir at its state',
    })
  const started = Date.now()
  const held = await holdJob(options)
  const { state } = held
  try {
    const { planned } = (await openCheckpoints(state.path, job.name)).current
    // Before anything is touched: where the ledger is damaged, nothing may change.
    const ledger = await openLedger(state.ledger, { run: held.run })
    await emptyStateFolders(state)
    const outbox = await Outbox.open(state, job)
    if (outbox === undefined) throw new AdflowError('UNEXPECTED', `there is no outbox of ${job.name}`)
    try {
      for (const id of options.switchOn) {
        const consumer = await ConsumerState.open(state.consumerOf(id))
        if (consumer.off !== undefined) {
          await ledger.append([{ type: 'consumer_switched', consumer: id, state: 'on', who: options.who }])
          await consumer.switchOn()
        }
        await consumer.close()
      }
      const work = { job, registry, state, outbox, ledger, planned, log, signal: drain }
      const consumers = await distribution(options).workOff(work)
      return summaryOf(options, held.run, started, consumers)
    } finally {
      await outbox.close()
      await ledger.close()
    }
  } finally {
    await held.close()
  }
}

/** @throws AdflowError USAGE */
export function requireConsumers(job: Job, named: readonly string[]): void {
  const known = job.distribute.map(({ id }) => id)
  if (known.length === 0)
    throw new AdflowError('USAGE', `the job ${job.name} has no consumers`, {
      hint: 'give it a `distribute:` block; see docs/distribute.md',
    })
  const unknown = named.find((id) => !known.includes(id))
  if (unknown !== undefined)
    throw new AdflowError('USAGE', `the job ${job.name} has no consumer ${unknown}`, {
      hint: `consumers: ${known.join(', ')}`,
    })
}

function summaryOf(
  { job, only, drain }: DistributeOptions,
  run: string,
  startedMs: number,
  consumers: Readonly<Record<string, ConsumerSummary>>,
): DistributeSummary {
  const waiting = Object.entries(consumers).filter(([id, { owed }]) => owed > 0 && only?.includes(id) !== false)
  const grave = waiting.some(([id]) => job.distribute.some((consumer) => consumer.id === id && !consumer.optional))
  const head = { schema_version: 1, run, job: job.name, seconds: (Date.now() - startedMs) / 1000, consumers } as const
  if (waiting.length > 0 && drain.aborted) return { ...head, status: 'interrupted', exit: EXIT.done }
  if (!grave) return { ...head, status: waiting.length > 0 ? 'owed' : 'done', exit: EXIT.done }
  const { code, message, hint, exit } = consumersOwed(waiting)
  return { ...head, status: 'owed', exit, error: { code, message, ...(hint === undefined ? {} : { hint }) } }
}
