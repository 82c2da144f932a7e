/** Flags of commands that read the sources of a job. */
import { Flags } from '@oclif/core'
import { AdflowError } from '../core/errors.ts'
import { parseDuration } from '../core/job/units.ts'
import type { RoundLimits } from '../runtime/run.ts'

export const roundFlags = {
  parallel: Flags.integer({
    min: 1,
    max: 256,
    helpValue: 'N',
    description: 'Sources that are read at the same time. Default: `resources.sources` of the job, 16.',
  }),
  within: Flags.string({
    helpValue: 'DURATION',
    description:
      'Longest that each source is read, such as 2m. What came by then is loaded, the rest is a gap, and the next run goes on there.',
  }),
}

export function roundLimits({
  parallel,
  within,
}: {
  readonly parallel?: number | undefined
  readonly within?: string | undefined
}): { round?: RoundLimits } {
  const limitMs = within === undefined ? undefined : parseDuration(within)
  if (within !== undefined && (limitMs === undefined || limitMs === 0))
    throw new AdflowError('USAGE', `--within ${within} is not a duration`, { hint: 'write it with its unit: 90s, 2m' })
  if (parallel === undefined && limitMs === undefined) return {}
  return {
    round: { ...(parallel === undefined ? {} : { parallel }), ...(limitMs === undefined ? {} : { limitMs }) },
  }
}
