import { z } from 'zod'
import { duration } from './units.ts'

/** What every entry of `extract` may say besides its component's options. */
export const extractBase = {
  optional: z
    .boolean()
    .default(false)
    .describe('true: when the source is down the gap is booked and the run goes on without it.'),
  priority: z
    .int()
    .min(0)
    .max(100)
    .default(50)
    .describe('Sources with a higher number begin first, and their batches go first where the engine is busy.'),
  give_up_after: duration
    .optional()
    .describe(
      'A source that gives nothing for so long is given up for this run: what it gave is loaded, the rest is a gap. Default: 30s for `http`, 10s for `prometheus`, 60s for other servers; none for files, `s3`, `sftp` and `kafka`, which give up by their own options.',
    ),
  time_limit: duration
    .optional()
    .describe(
      'Longest that one run reads the source, however much it gives: what came is loaded, and the next run goes on there. Default: to its end.',
    ),
}
