/** Who did what to a job, and what it read and loaded day by day: from the ledger alone, after its chain was walked. Reads only. */
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import type { Session } from '../engine/session.ts'
import { verifyAudit } from './audit-verify.ts'
import { openBrowser } from './browse.ts'
import { changedParts } from './pin-changes.ts'
import { Pins } from './pins.ts'
import { stateDirOf } from './state-dir.ts'

type Row = Readonly<Record<string, unknown>>

export interface AuditReport {
  readonly schema_version: 1
  readonly job: string
  /** ISO 8601 UTC; null: without a bound. `to` is not included. */
  readonly from: string | null
  readonly to: string | null
  /** The ledger that this was read from: `<number>:<hash>` of its newest event. */
  readonly head: string
  readonly events: number
  /** Books of the batches, by the day (UTC) on which they were closed last. */
  readonly days: readonly Row[]
  /** Rows that reached each store, by day: batches that were owed count where they were paid (`owed_before` of them). */
  readonly stores: readonly Row[]
  readonly runs: readonly Row[]
  /** What rules and steps took out or warned of. */
  readonly rules: readonly Row[]
  /** Runs that were made of something else than the run before. */
  readonly changes: readonly JobChange[]
  /** Everything else: what people did, and what went wrong. */
  readonly actions: readonly AuditAction[]
}

export interface JobChange {
  readonly time: string
  readonly run: string
  /** `job`, `variable X`, `secret X`, `reference X`, `adflow`, `engine`, `columns`. */
  readonly changed: readonly string[]
}

export interface AuditAction {
  readonly time: string
  readonly seq: number
  readonly type: string
  readonly who: string | null
  readonly what: string
  readonly run: string | null
}

export interface AuditReportOptions {
  readonly job: Job
  readonly stateDir: string
  readonly registry: Registry
  readonly log: Logger
  /** Milliseconds since the epoch: [from, to). */
  readonly from?: number
  readonly to?: number
}

/** Moves and books of batches, and runs, have tables of their own. */
const NO_ACTIONS = [
  'run_started',
  'run_ended',
  'batch_moved',
  'batch_closed',
  'store_paid',
  'distribution_moved',
  'rule_warned',
]

/** @throws AdflowError LEDGER_DAMAGED; STATE_MISSING where there is no ledger. */
export async function auditReport(options: AuditReportOptions): Promise<AuditReport> {
  const { job, stateDir, registry, log, from, to } = options
  if (from !== undefined && to !== undefined && from >= to)
    throw new AdflowError('USAGE', '--from must lie before --to')
  const { head, events } = await verifyAudit(job, stateDir)
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    const { session } = browser
    const within = (column: string) => period(column, from, to)
    const rows = (sql: string) => records(session, sql)
    return {
      schema_version: 1,
      job: job.name,
      from: isoOf(from),
      to: isoOf(to),
      head,
      events,
      days: await rows(`SELECT closed_at::DATE AS day, count(*) AS batches, sum("read")::BIGINT AS "read",
        sum("out")::BIGINT AS passed, sum(quarantined)::BIGINT AS quarantined, sum(filtered)::BIGINT AS filtered,
        sum(deduplicated)::BIGINT AS deduplicated, sum(unaccounted)::BIGINT AS unaccounted
        FROM batches WHERE ${within('closed_at')} GROUP BY 1 ORDER BY 1`),
      stores: await rows(storesSql(within)),
      runs: await rows(`SELECT started_at, ended_at, status, exit, code, batches, "read", who, command, version, run
        FROM runs WHERE ${within('started_at')} ORDER BY started_at`),
      rules: await rows(rulesSql(within)),
      changes: await changes(session, new Pins(stateDirOf(stateDir, job.name).pins), within('time')),
      actions: await actions(session, within('time')),
    }
  } finally {
    browser.close()
  }
}

function storesSql(within: (column: string) => string): string {
  return `WITH closed AS (
    SELECT closed_at AS time, unnest(map_entries(stores)) AS s FROM batches
  ), placed AS (
    SELECT time, s."key" AS store, CASE WHEN s."value".status <> 'owed' THEN s."value"."rows" ELSE 0 END AS loaded,
      CASE WHEN s."value".status = 'owed' THEN s."value"."rows" ELSE 0 END AS owed, 0 AS paid FROM closed
    UNION ALL
    SELECT time, loader, "rows", 0, "rows" FROM ledger WHERE type = 'store_paid'
  )
  SELECT time::DATE AS day, store, sum(loaded)::BIGINT AS loaded, sum(paid)::BIGINT AS owed_before, sum(owed)::BIGINT AS owed
  FROM placed WHERE ${within('time')} GROUP BY 1, 2 ORDER BY 1, 2`
}

function rulesSql(within: (column: string) => string): string {
  const part = (name: string) =>
    `SELECT '${name}' AS outcome, unnest(map_entries(counts.${name})) AS c FROM batches WHERE ${within('closed_at')}`
  return `WITH counted AS (${['quarantined', 'filtered', 'warned'].map(part).join(' UNION ALL ')}), told AS (
    SELECT c."key" AS rule, outcome, c."value" AS n FROM counted
    UNION ALL SELECT rule, type, 1 FROM (SELECT DISTINCT rule, type, token FROM ledger
      WHERE type IN ('rule_failed', 'rule_warned') AND ${within('time')})
  )
  SELECT rule, sum(n) FILTER (WHERE outcome = 'quarantined')::BIGINT AS quarantined,
    sum(n) FILTER (WHERE outcome = 'filtered')::BIGINT AS filtered, sum(n) FILTER (WHERE outcome = 'warned')::BIGINT AS warned,
    count(*) FILTER (WHERE outcome = 'rule_warned') AS batches_warned,
    count(*) FILTER (WHERE outcome = 'rule_failed') AS batches_stopped
  FROM told GROUP BY rule ORDER BY rule`
}

async function changes(session: Session, pins: Pins, within: string): Promise<JobChange[]> {
  const rows = await records(
    session,
    `SELECT * FROM (SELECT time, run, pin, lag(pin) OVER (ORDER BY seq) AS before FROM ledger
      WHERE type = 'run_started' AND pin IS NOT NULL) WHERE before IS NOT NULL AND before <> pin AND ${within} ORDER BY time`,
  )
  const found: JobChange[] = []
  for (const { time, run, pin, before } of rows)
    found.push({
      time: String(time),
      run: String(run),
      changed: await changedParts(pins, String(before), String(pin)),
    })
  return found
}

async function actions(session: Session, within: string): Promise<AuditAction[]> {
  const types = NO_ACTIONS.map((type) => `'${type}'`).join(', ')
  const rows = await records(
    session,
    `SELECT time, seq, type, who, run, event::VARCHAR AS event FROM audit WHERE type NOT IN (${types}) AND ${within} ORDER BY seq`,
  )
  return rows.map(({ time, seq, type, who, run, event }) => ({
    time: String(time),
    seq: Number(seq),
    type: String(type),
    who: who === null ? null : String(who),
    what: whatOf(JSON.parse(String(event)) as Row),
    run: run === null ? null : String(run),
  }))
}

/** Of any event, also of a later adflow: its own words where it has some, and its other values. */
function whatOf({ seq: _s, at: _a, prev: _p, hash: _h, type: _t, who: _w, run: _r, what, ...others }: Row): string {
  const values = Object.entries(others).map(([name, value]) => `${name}=${scalar(value)}`)
  return redact([...(what === undefined ? [] : [String(what)]), ...values].join(' '))
}

function scalar(value: unknown): string {
  if (Array.isArray(value) && value.length > 5) return `${value.length} values`
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

async function records(session: Session, sql: string): Promise<Row[]> {
  const { columns, rows } = await session.jsonRows(sql)
  return rows.map((row) => Object.fromEntries(columns.map((name, index) => [name, row[index] ?? null])))
}

/** Times of the ledger are UTC without a zone. */
function period(column: string, from: number | undefined, to: number | undefined): string {
  const bounds = [
    from === undefined ? 'true' : `${column} >= make_timestamp_ms(${Math.trunc(from)})`,
    to === undefined ? 'true' : `${column} < make_timestamp_ms(${Math.trunc(to)})`,
  ]
  return bounds.join(' AND ')
}

function isoOf(time: number | undefined): string | null {
  return time === undefined ? null : new Date(time).toISOString()
}
