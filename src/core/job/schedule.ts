/** The key `schedule` of a job file: when the daemon runs the job. */
import { z } from 'zod'
import { cronTimes, isTimezone } from '../cron.ts'
import { identifier } from './identifier.ts'
import { duration } from './units.ts'

export const schedule = z
  .strictObject({
    cron: z
      .string()
      .trim()
      .min(1)
      .meta({ examples: ['*/5 * * * *', '30 2 * * *', '@hourly'] })
      .optional()
      .describe(
        'When: minute, hour, day, month, weekday; with seconds as a sixth field in front; or `@hourly` and so on.',
      ),
    timezone: z
      .string()
      .refine(isTimezone, 'is no time zone; write one such as `Europe/Berlin`')
      .default('UTC')
      .describe('Time zone in which `cron` is read.'),
    after: z
      .array(identifier)
      .min(1)
      .optional()
      .describe(
        'Instead of `cron`: jobs of the same folder. The job runs each time all of them have ended well since its last run.',
      ),
    overlap: z
      .enum(['skip', 'queue_one', 'cancel_other'])
      .default('skip')
      .describe(
        'What becomes of a time that comes while the job still runs: it is skipped, waits (one does), or ends the run that goes on.',
      ),
    catch_up: duration
      .prefault('6h')
      .describe('How old a time may be that was missed, because no daemon was there, and is still made up for.'),
    missed: z
      .enum(['one', 'all', 'none'])
      .default('one')
      .describe('Which of the missed times within `catch_up` are made up for: only the newest, each, or none.'),
    jitter: duration
      .prefault('0s')
      .describe(
        'The run starts up to so much later; by how much is fixed for each time, and the same for every daemon.',
      ),
    priority: z
      .int()
      .min(0)
      .max(100)
      .default(50)
      .describe('Where more runs wait than may run at once, those with a higher number start first.'),
    timeout: duration
      .optional()
      .describe('Longest time of a run: then it is told to stop, and killed 30 s later. Default: none.'),
    retries: z
      .strictObject({
        attempts: z.int().min(1).max(100).default(3).describe('Runs of one time, the first included.'),
        initial: duration.prefault('30s').describe('Pause before the second run; it doubles each time.'),
        max: duration.prefault('10m').describe('Longest pause.'),
      })
      .prefault({})
      .describe('How a run is repeated that failed for a reason that may pass: exit 69, 74, 75, a crash, a time-out.'),
  })
  .superRefine(({ cron, after, timezone }, context) => {
    if ((cron === undefined) === (after === undefined)) {
      context.addIssue({ code: 'custom', message: 'a schedule has either `cron` or `after`' })
      return
    }
    if (cron === undefined) return
    try {
      // Without a time to come the job would wait for ever, and nobody would know.
      if (!isTimezone(timezone) || cronTimes(cron, timezone).after(Date.now()) !== undefined) return
      context.addIssue({ code: 'custom', path: ['cron'], message: `\`${cron}\` names no time that will ever come` })
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      context.addIssue({ code: 'custom', path: ['cron'], message: error.message })
    }
  })

export interface JobSchedule {
  readonly cron: string | undefined
  readonly timezone: string
  /** Names of jobs; empty: by `cron`. */
  readonly after: readonly string[]
  readonly overlap: 'skip' | 'queue_one' | 'cancel_other'
  readonly catchUpMs: number
  readonly missed: 'one' | 'all' | 'none'
  readonly jitterMs: number
  readonly priority: number
  readonly timeoutMs: number | undefined
  readonly retries: { readonly attempts: number; readonly initialMs: number; readonly maxMs: number }
}

export function readSchedule(value: z.output<typeof schedule>): JobSchedule {
  const { cron, timezone, after = [], overlap, missed, priority, retries } = value
  return {
    cron,
    timezone,
    after,
    overlap,
    missed,
    priority,
    catchUpMs: value.catch_up,
    jitterMs: value.jitter,
    timeoutMs: value.timeout,
    retries: { attempts: retries.attempts, initialMs: retries.initial, maxMs: retries.max },
  }
}
