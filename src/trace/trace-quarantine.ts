/** Refused records: the quarantine holds their place and bytes, the ledger tells of their batch and run. */
import { join } from 'node:path'
import { AdflowError } from '../core/errors.ts'
import { ident, list, literal } from '../engine/sql-text.ts'
import { openBrowser } from '../runtime/browse.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'
import { openPinnedJob, type PinnedJob } from '../runtime/pinned-job.ts'
import { Pins } from '../runtime/pins.ts'
import { stateDirOf } from '../runtime/state-dir.ts'
import type { TracedRecord } from './records.ts'
import { batchTold, runsTold, type TracedBatch, type TracedRun, type TraceOptions } from './trace-result.ts'

export interface RefusedRecord extends TracedRecord {
  readonly token: string
  readonly rule: string
  readonly field: string | null
  readonly reason: string
  readonly kept_in: string
}

export interface QuarantineTrace {
  readonly schema_version: 1
  readonly job: string
  readonly records: readonly RefusedRecord[]
  readonly batches: Readonly<Record<string, TracedBatch>>
  readonly runs: Readonly<Record<string, TracedRun>>
}

/** @throws AdflowError USAGE, NOT_FOUND, LEDGER_DAMAGED */
export async function traceQuarantine(options: TraceOptions): Promise<QuarantineTrace> {
  const { job, registry, log, where, keys = {}, limit } = options
  const state = stateDirOf(options.stateDir, job.name)
  const browser = await openBrowser(job, options.stateDir, registry, log, { stores: false })
  try {
    const { session } = browser
    const conditions = [
      ...(where === undefined ? [] : [`(${where}\n)`]),
      ...Object.entries(keys).map(([name, value]) => `${ident(name)}::VARCHAR = ${literal(value)}`),
    ]
    const rows = await session
      .rows(
        `SELECT token, origin, byte_from::BIGINT AS byte_from, byte_to::BIGINT AS byte_to, line::BIGINT AS line, rule, field, reason, raw, raw_base64 FROM quarantine${conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`} ORDER BY "at", origin, byte_from, line LIMIT ${limit}`,
      )
      .catch((error: unknown) => {
        if (!(error instanceof AdflowError) || error.code !== 'ENGINE_FAILED') throw error
        throw new AdflowError('USAGE', `cannot select refused records: ${error.message.split('\n', 1)[0]}`, {
          cause: error,
          hint: 'columns: token, source, lane, origin, at, byte_from, byte_to, line, rule, field, reason, failures, raw, raw_base64',
        })
      })
    if (rows.length === 0) throw new AdflowError('NOT_FOUND', `no record in the quarantine of ${job.name} is like that`)
    const tokens = new Set(rows.map((row) => String(row['token'])))
    const batches = await pastBatches(session, `token IN (SELECT unnest(${list([...tokens])}))`)
    return {
      schema_version: 1,
      job: job.name,
      records: rows.map((row) => refused(row, state.quarantine)),
      batches: Object.fromEntries(batches.map((batch) => [batch.token, batchTold(batch)])),
      runs: runsTold(batches, await pinnedJobs(batches, options)),
    }
  } finally {
    browser.close()
  }
}

function refused(row: Readonly<Record<string, unknown>>, folder: string): RefusedRecord {
  const text = (name: string) => (row[name] === null || row[name] === undefined ? null : String(row[name]))
  const token = text('token') ?? ''
  return {
    token,
    origin: text('origin') ?? '',
    byte_from: Number(row['byte_from']),
    byte_to: Number(row['byte_to']),
    line: Number(row['line']),
    rule: text('rule') ?? '',
    field: text('field'),
    reason: text('reason') ?? '',
    raw: text('raw'),
    raw_base64: text('raw_base64'),
    kept_in: join(folder, `${token}.ndjson`),
  }
}

/** A pin that cannot be read leaves its run without a job. */
async function pinnedJobs(
  batches: readonly PastBatch[],
  { job, registry, env, stateDir, log }: TraceOptions,
): Promise<Map<string, PinnedJob>> {
  const pins = new Pins(stateDirOf(stateDir, job.name).pins)
  const found = new Map<string, PinnedJob>()
  for (const pin of new Set(batches.map((batch) => batch.pin)))
    if (pin !== undefined)
      try {
        found.set(pin, await openPinnedJob(pins, pin, { registry, today: job, env }))
      } catch (error) {
        if (!(error instanceof AdflowError)) throw error
        log.warn(error.message)
      }
  return found
}
