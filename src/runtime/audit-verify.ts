/** Is the ledger of a job what was written? Reads only. */
import { existsSync } from 'node:fs'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { headText } from '../lineage/ledger-line.ts'
import { type LedgerReport, ledgerDamaged, ledgerSegments, verifyLedger } from '../lineage/ledger-verify.ts'
import { anchorOf, type LedgerAnchor } from '../lineage/ledger-walk.ts'
import { openCheckpoints } from './checkpoints.ts'
import { type StateDir, stateDirOf } from './state-dir.ts'

export interface AuditVerification {
  readonly schema_version: 1
  readonly job: string
  /** Folder of the segments. */
  readonly ledger: string
  readonly segments: number
  readonly events: number
  /** `<number>:<hash>` of the newest event: to be noted where nobody who can write to the ledger can write. */
  readonly head: string
  /** What the chain was compared with besides itself. */
  readonly compared_with: { readonly head: string | null; readonly checkpoint: string | null }
  /** A last line that was not finished: a write that is going on, or that a crash cut off. */
  readonly torn: { readonly segment: string; readonly byte: number; readonly bytes: number } | null
}

/** @throws AdflowError LEDGER_DAMAGED with segment, line and byte; STATE_MISSING where there is no ledger. */
export async function verifyAudit(job: Job, stateDir: string, head?: string): Promise<AuditVerification> {
  const anchor = head === undefined ? undefined : anchorOf(head)
  if (head !== undefined && anchor === undefined)
    throw new AdflowError('USAGE', `${head} is not the head of a ledger`, {
      hint: 'give `<number>:<hash>` as `adflow audit verify` prints it, or the hash alone (64 characters 0-9, a-f)',
    })
  const state = stateDirOf(stateDir, job.name)
  const noted = await notedInCheckpoint(state, job.name)
  if ((await ledgerSegments(state.ledger)).length === 0 && noted === undefined)
    throw new AdflowError('STATE_MISSING', `there is no ledger of job ${job.name} in ${state.path}`, {
      hint: 'the job has not run yet, or --state-dir names another folder',
    })
  let report: LedgerReport | undefined
  for (const compared of [anchor, noted === undefined ? undefined : anchorOf(noted)])
    if (compared !== undefined) report = await sound(state.ledger, compared)
  report ??= await sound(state.ledger)
  return {
    schema_version: 1,
    job: job.name,
    ledger: state.ledger,
    segments: report.segments,
    events: report.events,
    head: headText(report.head),
    compared_with: { head: head ?? null, checkpoint: noted ?? null },
    torn: report.torn ?? null,
  }
}

async function sound(ledger: string, anchor?: LedgerAnchor): Promise<LedgerReport> {
  const report = await verifyLedger(ledger, anchor)
  if (report.damage !== undefined) throw ledgerDamaged(ledger, report.damage)
  return report
}

/** Each save of the checkpoint notes how far the ledger had come. A checkpoint that cannot be read is told by other commands. */
async function notedInCheckpoint(state: StateDir, job: string): Promise<string | undefined> {
  if (!existsSync(state.path)) return undefined
  try {
    const noted = (await openCheckpoints(state.path, job)).current.extra?.['ledger']
    return typeof noted === 'string' ? noted : undefined
  } catch (error) {
    if (error instanceof AdflowError && error.code === 'STATE_DAMAGED') return undefined
    throw error
  }
}
