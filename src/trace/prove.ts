/**
 * The books of a window closed against the stores themselves: what was read is loaded, owed, quarantined, filtered or deduplicated,
 * and every store still holds what it was given. Reads only; whatever does not hold is named.
 */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import { AdflowError, EXIT } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { Session } from '../engine/session.ts'
import { verifyAudit } from '../runtime/audit-verify.ts'
import { openBrowser } from '../runtime/browse.ts'
import { holderOf } from '../runtime/lock.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'
import { stateDirOf } from '../runtime/state-dir.ts'
import { type BatchBooks, batchBooks, bookLines } from './books.ts'
import type { Certificate, Finding } from './certificate.ts'
import { checkQuarantine, checkSpool, lostRanges } from './check-state.ts'
import { checkStore, holds, placeOf, type StoreVerdict } from './check-store.ts'
import { expectedContents } from './expected.ts'
import { type OpenLoader, openLoaders } from './stores.ts'

export interface ProveOptions {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  /** Of adflow. */
  readonly version: string
  /** Batches planned in [from, to), milliseconds since the epoch. */
  readonly from?: number
  readonly to?: number
}

/** @throws AdflowError JOB_LOCKED, LEDGER_DAMAGED, STATE_MISSING, NOT_FOUND, STORE_UNAVAILABLE, STORE_LOCKED, STORE_DAMAGED */
export async function prove(options: ProveOptions): Promise<Certificate> {
  const { job, registry, log, stateDir } = options
  const state = stateDirOf(stateDir, job.name)
  await requireQuiet(state.path)
  const audit = await verifyAudit(job, stateDir)
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    const { session } = browser
    const all = await pastBatches(session)
    const batches = all.filter((batch) => inWindow(batch, options))
    if (batches.length === 0) throw nothingThere(options, all)
    const { open, closed } = await openLoaders({ job, registry, log, session })
    // A store that was never given anything need not be there.
    const down = Object.entries(closed).find(([id]) => all.some((batch) => holds(batch, id)))
    if (down !== undefined) throw down[1]
    const books = await batchBooks(session)
    const expected = await expectedContents(session)
    const verdicts = new Map<string, StoreVerdict>()
    for (const store of open)
      verdicts.set(
        store.id,
        checkStore({
          id: store.id,
          job: job.name,
          audit: all.some((batch) => holds(batch, store.id)) ? await auditOf(store, session, job.name) : undefined,
          expected: expected.get(store.id) ?? new Map(),
          batches,
          all,
        }),
      )
    const findings = [
      ...chainFindings(batches, books, open),
      ...[...verdicts.values()].flatMap((verdict) => verdict.findings),
      ...(await checkSpool(batches, open, state, session)),
      ...(await checkQuarantine(batches, books, session)),
      ...lostRanges(all, batches),
    ]
    const lines = bookLines(batches, books, verdicts, findings)
    const gaps = await openGaps(session, options)
    const unaccounted = findings.reduce((total, { rows }) => total + rows, 0)
    const status = statusOf(findings, gaps.length)
    return {
      schema_version: 1,
      job: job.name,
      job_digest: job.digest,
      window: { from: isoOf(options.from), to: isoOf(options.to) },
      made_at: new Date().toISOString(),
      adflow: options.version,
      ledger: { head: audit.head, events: audit.events, segments: audit.segments },
      status,
      unaccounted,
      books: lines,
      stores: [...verdicts.values()].map(({ checked }) => checked),
      quarantine: quarantined(batches, books),
      findings,
      gaps,
      exit: status === 'proven' ? EXIT.done : status === 'gaps' ? EXIT.rejected : EXIT.differences,
    }
  } finally {
    browser.close()
  }
}

/** While a run writes, books and stores are not of the same moment. */
async function requireQuiet(path: string): Promise<void> {
  const holder = existsSync(path) ? await holderOf(path) : undefined
  if (holder === undefined) return
  throw new AdflowError('JOB_LOCKED', `process ${holder.pid} runs the job (${holder.command})`, {
    hint: 'a proof needs a moment in which nothing is written: wait for it, and prove then',
  })
}

function auditOf({ loader, output }: OpenLoader, session: Session, job: string) {
  return loader.audit?.({ engine: session, job, columns: output.relation.columns })
}

function inWindow({ clock }: PastBatch, { from, to }: ProveOptions): boolean {
  const at = Date.parse(clock)
  return (from === undefined || at >= from) && (to === undefined || at < to)
}

function nothingThere({ job, from, to }: ProveOptions, all: readonly PastBatch[]): AdflowError {
  const window = `${from === undefined ? '' : ` from ${isoOf(from)}`}${to === undefined ? '' : ` to ${isoOf(to)}`}`
  return new AdflowError('NOT_FOUND', `job ${job.name} has closed no batch${window}: there is nothing to prove`, {
    hint:
      all.length === 0
        ? 'run it, or point --state-dir at its state'
        : `its batches were planned from ${all[0]?.clock} to ${all.at(-1)?.clock}`,
  })
}

/** The books of each batch by themselves, and against what each store said that it took. */
function chainFindings(
  batches: readonly PastBatch[],
  books: ReadonlyMap<string, BatchBooks>,
  stores: readonly OpenLoader[],
): Finding[] {
  return batches.flatMap((batch) => {
    const own = books.get(batch.token)
    const about = (store: string | null, expected: number, found: number, message: string): Finding => ({
      stage: 'chain',
      what: 'books',
      ...placeOf(batch),
      store,
      expected,
      found,
      rows: Math.max(Math.abs(expected - found), 1),
      message,
    })
    const open =
      own === undefined || own.closes
        ? []
        : [
            about(
              null,
              own.read,
              own.read - own.unaccounted,
              `the books of the batch do not close: ${own.unaccounted} of ${own.read} records`,
            ),
          ]
    const taken = stores.flatMap(({ id, output }) => {
      const outcome = batch.stores[id]
      if (outcome === undefined || output.kind !== 'row' || outcome.rows === batch.rows) return []
      return [about(id, batch.rows, outcome.rows, `${id} was booked with ${outcome.rows} of ${batch.rows} rows`)]
    })
    return [...open, ...taken]
  })
}

async function openGaps(session: Session, { from, to }: ProveOptions): Promise<Certificate['gaps']> {
  const rows = await session.rows(
    'SELECT source, lane, range_from::VARCHAR AS "from", code, message, epoch_ms(booked_at) AS at FROM gaps WHERE open',
  )
  return rows
    .filter(({ at }) => (from === undefined || Number(at) >= from) && (to === undefined || Number(at) < to))
    .map((row) => ({
      source: String(row['source']),
      lane: String(row['lane']),
      from: String(row['from']),
      code: String(row['code']),
      message: String(row['message']),
    }))
}

function statusOf(findings: readonly Finding[], gaps: number): Certificate['status'] {
  if (findings.some(({ what }) => what !== 'range')) return 'differences'
  return findings.length + gaps > 0 ? 'gaps' : 'proven'
}

function quarantined(batches: readonly PastBatch[], books: ReadonlyMap<string, BatchBooks>): Certificate['quarantine'] {
  const counts = batches.map(({ token }) => books.get(token)?.quarantined ?? 0).filter((count) => count > 0)
  return { batches: counts.length, records: counts.reduce((total, count) => total + count, 0) }
}

function isoOf(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString()
}
