/** A run of the past: its batches, and what it was made of. */
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import { openBrowser } from '../runtime/browse.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'
import { openPinnedJob, type PinnedJob } from '../runtime/pinned-job.ts'
import { Pins } from '../runtime/pins.ts'
import { stateDirOf } from '../runtime/state-dir.ts'
import { lastLoadings } from './missing-batches.ts'

export interface PastRunOptions {
  /** The job file of today. */
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  /** Id, the beginning of one, or `last`. */
  readonly run: string
}

export interface PastRun {
  readonly run: string
  readonly started: string
  readonly status: string
  readonly pin: string
  readonly pinned: PinnedJob
  /** Its batches, in the order in which they were refined. */
  readonly own: readonly PastBatch[]
  /** These, and all that were refined before the last of them: what steps with memory must see. */
  readonly before: readonly PastBatch[]
  /** `token store` of batches that a store is still owed. */
  readonly owed: ReadonlySet<string>
}

/** @throws AdflowError USAGE for an unknown run, with those that there are; LEDGER_DAMAGED, STATE_MISSING, STATE_DAMAGED */
export async function openPastRun(options: PastRunOptions): Promise<PastRun> {
  const { job, registry, stateDir, log } = options
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    const { session } = browser
    const found = await findRun(session, options.run)
    const [tokens, owed] = await tokensOf(session, found.run)
    const past = lastLoadings(await pastBatches(session))
    const own = past.filter(({ token }) => tokens.has(token))
    if (own.length === 0)
      throw new AdflowError('USAGE', `run ${found.run} has no batches that count: there is nothing to repeat`, {
        hint:
          tokens.size === 0
            ? 'it has read nothing; `adflow status` lists runs with their batches'
            : 'what it has read was loaded anew by a later run, after `state rewind --reload`',
      })
    const until = past.findLastIndex(({ token }) => tokens.has(token))
    const pins = new Pins(stateDirOf(stateDir, job.name).pins)
    const pinned = await openPinnedJob(pins, found.pin, { registry, today: job, env: process.env })
    return { ...found, pinned, own, before: past.slice(0, until + 1), owed }
  } finally {
    browser.close()
  }
}

async function findRun(session: Session, wanted: string): Promise<Pick<PastRun, 'run' | 'started' | 'status' | 'pin'>> {
  const rows = await session.rows(
    'SELECT run, started_at::VARCHAR AS started, status, pin, batches FROM runs ORDER BY started_at, run',
  )
  const read = rows.filter((row) => Number(row['batches']) > 0)
  const found = wanted === 'last' ? read.slice(-1) : rows.filter((row) => String(row['run']).startsWith(wanted))
  const [only, ...others] = found
  if (only === undefined || others.length > 0) {
    const shown = (others.length > 0 ? found : read).slice(-5).map((row) => `${row['run']} (${row['started']})`)
    throw new AdflowError('USAGE', others.length > 0 ? `${wanted} is not one run` : `there is no run ${wanted}`, {
      hint: shown.length === 0 ? 'the job has not read anything yet' : `runs: ${shown.join(', ')}`,
    })
  }
  if (only['pin'] === null || only['pin'] === undefined)
    throw new AdflowError('STATE_MISSING', `run ${only['run']} was not pinned: nobody knows what it was made of`, {
      hint: 'it was made by an older adflow',
    })
  const text = (name: string) => String(only[name])
  return { run: text('run'), started: text('started'), status: text('status'), pin: text('pin') }
}

async function tokensOf(session: Session, run: string): Promise<[ReadonlySet<string>, ReadonlySet<string>]> {
  const closed = await session.rows(
    `SELECT DISTINCT token FROM ledger WHERE type = 'batch_closed' AND run = ${literal(run)}`,
  )
  const owed = await session.rows(`
    SELECT token, store."key" AS store FROM (SELECT token, unnest(map_entries(stores)) AS store FROM batches)
    WHERE store."value".status = 'owed' AND (token, store."key") NOT IN
      (SELECT (token, loader) FROM ledger WHERE type = 'store_paid' AND token IS NOT NULL AND loader IS NOT NULL)`)
  const names = (rows: readonly Record<string, unknown>[], ...columns: string[]) =>
    new Set(rows.map((row) => columns.map((column) => String(row[column])).join(' ')))
  return [names(closed, 'token'), names(owed, 'token', 'store')]
}
