/** What a run knows of distribution: rows are put into the outbox, and whoever is given hands them over. */
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { tokenOf } from '../core/token.ts'
import type { Ledger } from '../lineage/ledger.ts'
import { type Batch, type BatchesOptions, infoOf } from './batch.ts'
import type { PlannedBatch } from './checkpoint-slot.ts'
import type { Outbox } from './outbox.ts'
import { MAIN, type Pipeline } from './pipeline.ts'
import type { Refined } from './refine.ts'
import type { StateDir } from './state-dir.ts'

export interface ConsumerSummary {
  /** Rows that the consumer has taken in this run. */
  delivered: number
  /** Rows that became dead letters in this run. */
  dead: number
  /** Rows that wait for it. */
  owed: number
  /** Why, where something is owed. */
  reason?: string
}

export interface DistributionWork {
  readonly job: Job
  readonly registry: Registry
  readonly state: StateDir
  readonly outbox: Outbox
  readonly ledger: Ledger
  /** Ranges that are not through: later batches of their lanes wait for them. */
  readonly planned: readonly PlannedBatch[]
  readonly log: Logger
  /** Aborted: nothing new is sent. */
  readonly signal: AbortSignal
}

/** Implemented in src/distribute, which the runtime may not import. */
export interface Distribution {
  /** Hands over what waits. Resolves when nothing waits, or what is left has to wait; by id of the consumer. */
  workOff(work: DistributionWork): Promise<Readonly<Record<string, ConsumerSummary>>>
}

/** Puts the outputs that consumers read into the outbox. true: something of the batch waits for a consumer. */
export async function shelve(
  batch: Batch,
  refined: Refined,
  { job, saver, outbox, makeRoom, drain }: BatchesOptions,
  { outputs }: Pipeline,
): Promise<boolean> {
  if (outbox === undefined) return false
  await outbox.room(makeRoom, drain ?? new AbortController().signal)
  let waits = false
  for (const name of outbox.outputs) {
    const output = refined.outputs.get(name)
    if (output === undefined) throw new AdflowError('UNEXPECTED', `there is no output ${name} to distribute`)
    const { source, chunk, plan, token } = batch
    const parts = { job: job.name, source: source.config.id, range: chunk.range, epoch: saver.state.epoch }
    const rows = await outbox.put(
      name,
      {
        ...infoOf(job.name, batch),
        token: name === MAIN ? token : tokenOf({ ...parts, output: name }),
        batch: token,
        sequence: plan.sequence,
        origin: chunk.origin,
        columns: output.columns,
      },
      output.relation,
      batch.session,
    )
    if (rows !== undefined) waits = true
    if (rows !== undefined && outputs.get(name)?.kind === 'row' && rows !== refined.rows)
      throw new AdflowError(
        'UNACCOUNTED',
        `the outbox has ${rows} of ${refined.rows} rows of ${chunk.range.lane} [${chunk.range.from}, ${chunk.range.to})`,
        { hint: 'the batch is not acknowledged. Were the rules changed since? Run the job once as it was' },
      )
  }
  return waits
}

/** Rows that were handed over add up; what waits is what waits now. */
export function addConsumers(
  before: Readonly<Record<string, ConsumerSummary>>,
  after: Readonly<Record<string, ConsumerSummary>>,
): Readonly<Record<string, ConsumerSummary>> {
  const entries = Object.entries(after).map(([id, { delivered, dead, ...rest }]) => {
    const earlier = before[id]
    return [id, { delivered: delivered + (earlier?.delivered ?? 0), dead: dead + (earlier?.dead ?? 0), ...rest }]
  })
  return Object.fromEntries(entries) as Readonly<Record<string, ConsumerSummary>>
}

/** For what waits for consumers. */
export function consumersOwed(waiting: readonly (readonly [string, ConsumerSummary])[]): AdflowError {
  const texts = waiting.map(
    ([id, { owed, reason }]) => `${owed} rows wait for ${id}${reason === undefined ? '' : `: ${reason}`}`,
  )
  return new AdflowError('CONSUMER_OWED', texts.join('; '), {
    hint: 'they wait in the outbox; the next run hands them over, and so does `adflow distribute`',
  })
}
