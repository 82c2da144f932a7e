/** The keys `until` and `stream` of a job file: a job that ends with what is there now, or one that goes on for ever. */
import { z } from 'zod'
import { MOST_SHARDS } from '../shard.ts'
import type { Checker } from './checker.ts'
import type { JobLoader } from './job.ts'
import { duration } from './units.ts'

export const until = z
  .enum(['now', 'forever'])
  .default('now')
  .describe(
    '`now`: a run ends where its sources end now. `forever`: it goes on with what comes, until it is told to stop; `adflow daemon` keeps it going.',
  )

export const stream = z
  .strictObject({
    flush: duration
      .prefault('50ms')
      .describe('How long a source that is asked all the time may keep what it has, to make a larger batch of it.'),
    store_timeout: duration
      .prefault('10s')
      .describe('A store that has not taken a batch by then is down: its batches wait in the spool, the others go on.'),
    stalled_after: duration
      .prefault('60s')
      .describe(
        'When a source has records to be read and gives none for so long, its connections are made anew; when that does not help the run ends with 75.',
      ),
    shards: z
      .int()
      .min(1)
      .max(MOST_SHARDS)
      .default(1)
      .describe(
        'Parts in which a job without memory is run, each by a process of its own, also by several daemons: each has its share of the partitions. Another number takes positions along.',
      ),
    report: duration.prefault('1m').describe('How often a line of the log says what has gone through.'),
  })
  .describe('How a job with `until: forever` works.')

export interface JobStream {
  /** The job goes on until it is told to stop. */
  readonly forever: boolean
  readonly flushMs: number
  readonly storeTimeoutMs: number
  readonly stalledMs: number
  readonly reportMs: number
  /** Processes that share the lanes. */
  readonly shards: number
}

export function readStream(until: 'now' | 'forever', options: z.output<typeof stream>): JobStream {
  return {
    forever: until === 'forever',
    flushMs: options.flush,
    storeTimeoutMs: options.store_timeout,
    stalledMs: options.stalled_after,
    reportMs: options.report,
    shards: options.shards,
  }
}

/** What only a run that comes to an end can do. */
export function checkForever(checker: Checker, load: readonly JobLoader[]): void {
  if (checker.raw(['until']) !== 'forever') {
    if (checker.raw(['stream', 'shards']) !== undefined)
      checker.add(
        ['stream', 'shards'],
        'only a job with `until: forever` has shards',
        'leave out `shards`, or add `until: forever`',
        'key',
      )
    return
  }
  if (checker.raw(['schedule']) !== undefined)
    checker.add(
      ['schedule'],
      'a job with `until: forever` has no schedule',
      'leave out `schedule`: the daemon starts the job, and starts it again when it has ended',
      'key',
    )
  for (const { id, options, path } of load)
    if ((options as { readonly write?: unknown }).write === 'replace')
      checker.add(
        [...path, 'write'],
        `the store ${id} is replaced at the end of a run, and a job with \`until: forever\` has no end`,
        'use `write: append` or `write: merge`',
        'value',
      )
}
