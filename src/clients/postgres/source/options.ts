/** Options that both readers of PostgreSQL have. */
import { z } from 'zod'
import { duration } from '../../../core/job/units.ts'
import { stagingOptions } from '../../staging/options.ts'
import { connectionShape } from '../options.ts'

const { connections: _, statement_timeout: __, ...connection } = connectionShape

export const sourceShape = {
  ...connection,
  statement_timeout: duration
    .prefault('10m')
    .describe('How long the server may take for the next rows. What adflow itself waits for is not counted.'),
  lock_timeout: duration.prefault('30s').describe('How long is waited for a table that another session has locked.'),
  retry: z
    .strictObject({
      attempts: z.int().min(1).default(5).describe('How often it is tried before it is a gap.'),
      initial: duration.prefault('500ms').describe('Pause after the first failure; doubled each time.'),
      max: duration.prefault('30s').describe('Longest pause.'),
    })
    .prefault({})
    .describe('A server that is down, or that breaks off, is asked again. Pages that came are kept.'),
  poll: duration.prefault('10s').describe('How often a job that runs for ever asks again.'),
  staging: stagingOptions.prefault({}),
} as const

export type SourceOptions = z.infer<z.ZodObject<typeof sourceShape>>
