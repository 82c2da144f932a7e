/** What is owed to nobody any more. */
import type { Job } from '../core/job/job.ts'
import { Spool } from './spool.ts'
import { type StateDir, spoolsIn } from './state-dir.ts'

/** What is owed to a loader that the job no longer has, or calls otherwise, would be forgotten in silence. */
export async function warnOfForgotten(job: Job, state: StateDir, warn: (text: string) => void): Promise<void> {
  for (const id of await spoolsIn(state)) {
    if (job.load.some((loader) => loader.id === id)) continue
    const spool = new Spool(state.spoolOf(id))
    await spool.open()
    const { rows } = spool
    if (rows > 0)
      warn(
        `${rows} rows in ${spool.folder} are owed to ${id}, and the job has no such loader: give a loader that id again, or remove the folder`,
      )
  }
}
