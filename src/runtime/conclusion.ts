/** What a run has come to: its status, exit code and error. */
import { AdflowError, ERROR_CODES, type ErrorCode, EXIT } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import { consumersOwed } from './distribution.ts'
import type { Store } from './store.ts'
import type { GapSummary, RunSummary } from './summary.ts'

const STATUS_OF: Partial<Record<ErrorCode, string>> = {
  DATA_REJECTED: 'rejected',
  NOTHING_ACCEPTED: 'rejected',
  STORE_OWED: 'owed',
  CONSUMER_OWED: 'owed',
}

export function failed(summary: RunSummary, error: unknown): void {
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

export interface Conclusion {
  readonly job: Job
  readonly summary: RunSummary
  readonly stores: readonly Store[]
  /** Ended by a signal before everything was read. */
  readonly interrupted: boolean
  /** A signal is how such a run ends. */
  readonly forever: boolean
  warn(text: string): void
}

/** What the run has come to, the gravest first. */
export function conclude({ job, summary, stores, interrupted, forever, warn }: Conclusion): void {
  const owing = stores.filter((store) => store.spool.size > 0 || store.down !== undefined)
  const grave = gravest(summary.gaps)
  for (const rule of job.batchRules) {
    if (rule.kind !== 'rows') continue
    const broken = brokenBound(rule, summary.read, summary.passed, interrupted)
    if (broken === undefined) continue
    if (rule.onFail === 'fail')
      throw new AdflowError('DATA_REJECTED', broken, { hint: 'the rows are loaded; the run is marked as rejected' })
    warn(broken)
  }
  if (summary.read > 0 && summary.passed === 0 && summary.quarantined === summary.read)
    throw new AdflowError(
      'NOTHING_ACCEPTED',
      `all ${summary.read} records were quarantined (${Object.keys(summary.quarantined_by).join(', ')})`,
      {
        hint: 'see them with `adflow query "select rule, reason, raw from quarantine limit 5"`; the source or the contract is wrong',
      },
    )
  const failing = owing.filter((store) => !store.optional && !(interrupted && !forever && isCutShort(store)))
  if (failing.length > 0) throw storesOwed(owing)
  const waiting = Object.entries(summary.consumers).filter(([, { owed }]) => owed > 0)
  const required = new Set(job.distribute.filter(({ optional }) => !optional).map(({ id }) => id))
  if (!interrupted && waiting.some(([id]) => required.has(id))) throw consumersOwed(waiting)
  if (grave !== undefined) {
    summary.status = 'gaps'
    summary.exit = ERROR_CODES[grave.code as keyof typeof ERROR_CODES]?.exit ?? EXIT.rejected
    summary.error = { code: grave.code as keyof typeof ERROR_CODES, message: grave.message }
    return
  }
  if (interrupted && !forever) {
    summary.status = 'interrupted'
    const owed = owing.filter(({ spool }) => spool.size > 0)
    if (owed.length > 0) summary.warnings.push(redact(storesOwed(owed).message))
  } else if (waiting.length > 0) {
    summary.status = 'owed'
    summary.warnings.push(consumersOwed(waiting).message)
  } else if (owing.length > 0) {
    summary.status = 'owed'
    summary.warnings.push(redact(storesOwed(owing).message))
  }
}

/** The signal came before it had answered: what is owed to it is no fault of its own. */
function isCutShort({ down }: Store): boolean {
  return down === undefined || down.code === 'INTERRUPTED'
}

/** What a rule on rows finds of a whole run; undefined where it holds. A run that found nothing new has no rows to judge: a job that
 *  looks every minute would be rejected most of the time. One that was cut short may yet bring the others. */
export function brokenBound(
  {
    id,
    min = 0,
    max = Number.POSITIVE_INFINITY,
  }: { readonly id: string; readonly min: number | undefined; readonly max: number | undefined },
  read: number,
  rows: number,
  interrupted = false,
): string | undefined {
  if (read === 0 || (rows >= min && rows <= max) || (interrupted && rows < min)) return undefined
  return `rule ${id} does not hold: ${rows} rows passed, expected ${min} to ${max === Number.POSITIVE_INFINITY ? 'any number' : max}`
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
    const rows = spool.rows
    const batches = spool.size === 1 ? 'batch' : 'batches'
    if (spool.size === 0) return `${id} is down, and owed nothing: ${down?.message}`
    return `${id} is owed ${rows} rows in ${spool.size} ${batches}: ${down?.message ?? 'the run ended before they were paid'}`
  })
  const hints = new Set(owing.flatMap(({ down }) => down?.hint ?? []))
  return new AdflowError('STORE_OWED', owed.join('; '), {
    hint: ['what is owed waits in the spool, and the next run pays it', ...hints].join('; '),
  })
}
