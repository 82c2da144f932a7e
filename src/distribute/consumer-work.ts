/** What the loops of all kinds of consumers work with. */
import type { Logger } from 'pino'
import type { JobConsumer } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Session } from '../engine/session.ts'
import type { Ledger } from '../lineage/ledger.ts'
import type { Outbox, OutboxFile } from '../runtime/outbox.ts'
import type { ConsumerState } from './consumer-state.ts'

export interface ConsumerWork {
  readonly config: JobConsumer
  readonly state: ConsumerState
  readonly outbox: Outbox
  /** Batches that it has not had whole and whose turn has come, in order. */
  readonly files: readonly OutboxFile[]
  readonly ledger: Ledger
  readonly log: Logger
  /** Aborted: nothing new is sent. */
  readonly signal: AbortSignal
  /** Ends the work although something is left; milliseconds since the epoch. */
  readonly untilMs: number
  /** How long without anything handed over; Infinity: as long as it takes. */
  readonly patienceMs: number
  /** A session of the consumer's own, opened on demand. */
  session(): Promise<Session>
  /** The consumer has had the batch whole. */
  passed(file: OutboxFile): Promise<void>
}

export interface ConsumerEnd {
  /** Rows. */
  readonly delivered: number
  readonly dead: number
  /** Rows of each batch that is not through yet which are, by token. */
  settledRows(token: string): number
  /** Why something is left. */
  readonly reason: string | undefined
}

/** A random part of a pause that doubles with each attempt: many who wait do not come back all at once. */
export function pauseMs({ initialMs, maxMs }: JobConsumer['retry'], attempts: number): number {
  return Math.random() * Math.min(maxMs, initialMs * 2 ** Math.min(attempts - 1, 40))
}

/** It wants nothing any more: until somebody switches it on, everything for it waits. */
export async function switchOff({ config, ledger, log, state }: ConsumerWork, reason: string): Promise<void> {
  if (state.off !== undefined) return
  await state.switchOff(redact(reason))
  log.error({ consumer: config.id }, redact(`switched off: ${reason}`))
  await ledger.append([{ type: 'consumer_switched', consumer: config.id, state: 'off', reason: redact(reason) }])
}
