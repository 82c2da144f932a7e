/** Where the parts of a job stand. Reads only. */
import { existsSync } from 'node:fs'
import type { Job } from '../core/job/job.ts'
import { shardText } from '../core/shard.ts'
import type { Checkpoint } from './checkpoint-slot.ts'
import { openCheckpoints } from './checkpoints.ts'
import { type RunHolder, runOf } from './hold.ts'
import { Spool } from './spool.ts'
import { partStateOf, type StateDir } from './state-dir.ts'

export interface ShardStatus {
  /** `2/8`. */
  readonly shard: string
  readonly state_dir: string
  /** The run that is going on. */
  readonly running: RunHolder | null
  /** null: it has not run. */
  readonly saved_at: string | null
  readonly lanes: number
  readonly planned: number
  /** Rows, of all stores. */
  readonly owed: number
}

export interface ShardState {
  readonly status: ShardStatus
  readonly sources: Checkpoint['sources']
}

/** Empty where the job is run whole. */
export function shardStates(job: Job, directory: string): Promise<ShardState[]> {
  const { shards } = job.stream
  const parts = shards === 1 ? [] : Array.from({ length: shards }, (_, index) => ({ index, of: shards }))
  return Promise.all(
    parts.map(async (shard) => {
      const state = partStateOf(directory, job.name, shard)
      const exists = existsSync(state.path)
      const checkpoints = exists ? await openCheckpoints(state.path, job.name) : undefined
      const current = checkpoints?.fresh === false ? checkpoints.current : undefined
      const sources = current?.sources ?? {}
      const status = {
        shard: shardText(shard),
        state_dir: state.path,
        running: exists ? ((await runOf(job, state)) ?? null) : null,
        saved_at: current?.saved_at ?? null,
        lanes: Object.values(sources).reduce((total, lanes) => total + Object.keys(lanes).length, 0),
        planned: current?.planned.length ?? 0,
        owed: exists ? await owedIn(job, state) : 0,
      }
      return { status, sources }
    }),
  )
}

async function owedIn(job: Job, state: StateDir): Promise<number> {
  let rows = 0
  for (const { id } of job.load) {
    const spool = new Spool(state.spoolOf(id))
    if (!existsSync(spool.folder)) continue
    await spool.open()
    rows += spool.owed.reduce((total, batch) => total + batch.rows, 0)
  }
  return rows
}
