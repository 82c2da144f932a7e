/** How often a source over HTTP is asked again. */
import { z } from 'zod'
import { duration } from '../../core/job/units.ts'

export const retryOptions = z
  .strictObject({
    attempts: z.int().min(1).default(5).describe('How often a page is asked for before it is a gap.'),
    initial: duration.prefault('500ms').describe('Pause after the first failure; doubled each time.'),
    max: duration.prefault('30s').describe('Longest pause.'),
    patience: duration.prefault('2m').describe('Longest `Retry-After` that is waited for.'),
  })
  .describe('No answer, a broken one, 408, 425, 429 and 5xx are tried again.')
