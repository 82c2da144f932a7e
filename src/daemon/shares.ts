/** Which parts of the jobs that go on for ever this daemon runs. Where it is alone, all of them. */
import type { AcceptedJob } from './job-folder.ts'

export interface Shares {
  /** Indices of the shards of the job, from 0; of a job without shards 0, or nothing. */
  of(job: AcceptedJob): ReadonlySet<number>
}

export const ALL_SHARES: Shares = {
  of: ({ job }) => new Set(Array.from({ length: job.stream.shards }, (_, index) => index)),
}
