/** Options that every staged source has. */
import { z } from 'zod'
import { byteSize, duration } from '../../core/job/units.ts'

export const stagingOptions = z
  .strictObject({
    max_bytes: byteSize
      .prefault('1GiB')
      .describe(
        'Most that may be staged of the source and not loaded: whoever fetches waits then. A page that does not fit is a gap.',
      ),
    timeout: duration
      .prefault('30m')
      .describe(
        'Longest that a run fetches of one lane, waiting for the engine not counted; what came until then is kept.',
      ),
  })
  .describe('Fetched bytes are durable on this disk before anything else is done with them.')

export type StagingOptions = z.infer<typeof stagingOptions>
