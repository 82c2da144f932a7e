/** Options that both readers of PostgreSQL have. */
import type { z } from 'zod'
import { duration } from '../../../core/job/units.ts'
import { retryOptions } from '../../staging/attempts.ts'
import { stagingOptions } from '../../staging/options.ts'
import { connectionShape } from '../options.ts'

const { connections: _, statement_timeout: __, ...connection } = connectionShape

export const sourceShape = {
  ...connection,
  statement_timeout: duration
    .prefault('10m')
    .describe('How long the server may take for the next rows. What adflow itself waits for is not counted.'),
  lock_timeout: duration.prefault('30s').describe('How long is waited for a table that another session has locked.'),
  retry: retryOptions.prefault({}),
  poll: duration.prefault('10s').describe('How often a job that runs for ever asks again.'),
  staging: stagingOptions.prefault({}),
} as const

export type SourceOptions = z.infer<z.ZodObject<typeof sourceShape>>
