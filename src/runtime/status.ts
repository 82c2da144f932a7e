/** Where a job stands: positions, what is owed, the last runs, the totals of its books. Reads only. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Job } from '../core/job/job.ts'
import { readTokens } from '../core/token-log.ts'
import type { Browser } from './browse.ts'
import { openCheckpoints } from './checkpoints.ts'
import { type RunHolder, runOf } from './hold.ts'
import { type ShardStatus, shardStates } from './shard-status.ts'
import { Spool } from './spool.ts'
import { type StagedStatus, stagedOf } from './staged-status.ts'
import { type StateDir, stateDirOf } from './state-dir.ts'

export interface JobStatus {
  readonly schema_version: 1
  readonly job: string
  readonly state_dir: string
  /** The run that is going on. */
  readonly running: RunHolder | null
  readonly checkpoint: {
    readonly generation: string
    readonly epoch: string
    readonly saved_at: string
    readonly fallback: string | null
  } | null
  /** Its parts; none where it is run whole. What is said of runs, books and gaps is said by the status of each part. */
  readonly shards: readonly ShardStatus[]
  readonly lanes: readonly {
    readonly source: string
    readonly lane: string
    readonly at: string
    readonly behind: Readonly<Record<string, string>>
  }[]
  /** Ranges under way or cut off by a kill: retried exactly by the next run. */
  readonly planned: number
  readonly owed: readonly {
    readonly store: string
    readonly batches: number
    readonly rows: number
    readonly bytes: number
  }[]
  /** Fetched bytes that are not loaded yet, of sources that have some. */
  readonly staged: readonly StagedStatus[]
  /** What waits in the outbox, for each consumer that something waits for. */
  readonly consumers: readonly ConsumerStatus[]
  readonly runs: readonly Readonly<Record<string, unknown>>[]
  readonly conservation: readonly Readonly<Record<string, unknown>>[]
  readonly gaps: readonly Readonly<Record<string, unknown>>[]
}

export interface ConsumerStatus {
  readonly consumer: string
  readonly batches: number
  /** Before `where`; those that are through of a batch that is not count too. */
  readonly rows: number
  readonly bytes: number
}

export async function jobStatus(job: Job, stateDir: string, { session }: Browser): Promise<JobStatus> {
  const state = stateDirOf(stateDir, job.name)
  const exists = existsSync(state.path)
  const checkpoints = exists ? await openCheckpoints(state.path, job.name) : undefined
  const { current } = checkpoints ?? {}
  const parts = state.shard === undefined ? await shardStates(job, stateDir) : []
  const owed = []
  for (const { id } of exists ? job.load : []) {
    const spool = new Spool(state.spoolOf(id))
    if (!existsSync(spool.folder)) continue
    await spool.open()
    if (spool.size > 0)
      owed.push({
        store: id,
        batches: spool.size,
        rows: spool.rows,
        bytes: spool.bytes,
      })
  }
  const records = async (sql: string) => {
    const { columns, rows } = await session.jsonRows(sql)
    return rows.map((row) => Object.fromEntries(columns.map((name, index) => [name, row[index] ?? null])))
  }
  return {
    schema_version: 1,
    job: job.name,
    state_dir: state.path,
    running: exists ? ((await runOf(job, state)) ?? null) : null,
    checkpoint:
      checkpoints === undefined || checkpoints.fresh || current === undefined
        ? null
        : {
            generation: current.generation,
            epoch: current.epoch,
            saved_at: current.saved_at,
            fallback: checkpoints.fallback?.reason ?? null,
          },
    shards: parts.map(({ status }) => status),
    lanes: [current?.sources ?? {}, ...parts.map(({ sources }) => sources)].flatMap((sources) =>
      Object.entries(sources).flatMap(([source, lanes]) =>
        Object.entries(lanes).map(([lane, { at, loaders }]) => ({ source, lane, at, behind: loaders ?? {} })),
      ),
    ),
    planned: parts.reduce((total, { status }) => total + status.planned, current?.planned.length ?? 0),
    owed,
    staged: exists ? await stagedOf(job, state, current?.sources ?? {}) : [],
    consumers: exists ? await waiting(job, state) : [],
    runs: await records(
      'SELECT run, started_at, ended_at, status, exit, code, batches, "read" FROM runs ORDER BY started_at DESC LIMIT 10',
    ),
    conservation: await records(
      'SELECT source, store, sum(batches)::BIGINT AS batches, sum("read")::BIGINT AS "read", sum(loaded)::BIGINT AS loaded, sum(quarantined)::BIGINT AS quarantined, sum(filtered)::BIGINT AS filtered, sum(deduplicated)::BIGINT AS deduplicated, sum(owed)::BIGINT AS owed, sum(unaccounted)::BIGINT AS unaccounted FROM conservation GROUP BY ALL ORDER BY ALL',
    ),
    gaps: await records(
      'SELECT source, lane, range_from, range_to, code, message, booked_at, since, times FROM gaps WHERE open',
    ),
  }
}

async function waiting(job: Job, state: StateDir): Promise<ConsumerStatus[]> {
  const found: ConsumerStatus[] = []
  for (const { id, input } of job.distribute) {
    const spool = new Spool(state.outboxOf(input))
    if (!existsSync(spool.folder)) continue
    await spool.open()
    const passed = await readTokens(join(state.consumerOf(id), 'passed'))
    const files = spool.owed.filter(({ token }) => !passed.has(token))
    if (files.length === 0) continue
    const sum = (key: 'rows' | 'bytes') => files.reduce((total, file) => total + file[key], 0)
    found.push({ consumer: id, batches: files.length, rows: sum('rows'), bytes: sum('bytes') })
  }
  return found
}
