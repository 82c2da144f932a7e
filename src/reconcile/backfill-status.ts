/** What has come of backfills. Reads only, also while one is worked on. */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { literal } from '../engine/sql-text.ts'
import { openBrowser } from '../runtime/browse.ts'
import { holderOf } from '../runtime/lock.ts'
import { type StateDir, stateDirOf } from '../runtime/state-dir.ts'
import { type BackfillHead, findBackfill, listBackfills, readPlan } from './backfill-file.ts'

export interface BackfillStatus extends Omit<BackfillHead, 'version' | 'plan' | 'status'> {
  /** `interrupted`: it was killed; resume it. */
  readonly status: BackfillHead['status'] | 'interrupted'
}

export interface BackfillDetail extends BackfillStatus {
  readonly schema_version: 1
  readonly done: number
  readonly items: readonly {
    readonly kind: 'first' | 'restore'
    readonly source: string
    readonly lane: string
    readonly from: string
    readonly to: string
    readonly token: string
    readonly stores: readonly string[]
    readonly done: boolean
  }[]
}

/** Newest first. */
export async function backfillStatuses(job: Job, stateDir: string): Promise<readonly BackfillStatus[]> {
  const state = stateDirOf(stateDir, job.name)
  const heads = await listBackfills(state)
  return Promise.all(heads.toReversed().map((head) => statusOf(state, head)))
}

export async function backfillDetail(
  job: Job,
  stateDir: string,
  registry: Registry,
  log: Logger,
  wanted: string,
): Promise<BackfillDetail> {
  const state = stateDirOf(stateDir, job.name)
  const head = await findBackfill(state, wanted)
  const plan = await readPlan(state, head)
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    const rows = await browser.session.rows(
      `SELECT DISTINCT token, type FROM ledger WHERE type = 'batch_closed' OR (type = 'batch_restored' AND backfill = ${literal(head.id)})`,
    )
    const seen = new Set(rows.map((row) => `${row['type']} ${row['token']}`))
    const items = plan.map(({ kind, source, lane, from, to, token, stores }) => {
      const done = seen.has(`${kind === 'first' ? 'batch_closed' : 'batch_restored'} ${token}`)
      return { kind, source, lane, from, to, token, stores, done }
    })
    const done = items.filter((item) => item.done).length
    return { schema_version: 1, ...(await statusOf(state, head)), done, items }
  } finally {
    browser.close()
  }
}

async function statusOf(state: StateDir, { version: _, plan: __, ...head }: BackfillHead): Promise<BackfillStatus> {
  if (head.status !== 'running') return head
  const holder = existsSync(state.path) ? await holderOf(state.path) : undefined
  return holder?.run === head.run ? head : { ...head, status: 'interrupted' }
}
