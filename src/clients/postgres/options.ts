/** Options by which a component reaches a PostgreSQL server. */
import { z } from 'zod'
import { duration } from '../../core/job/units.ts'
import { tlsModeShape } from '../../core/tls.ts'

export const connectionShape = {
  url: z
    .string()
    .regex(/^postgres(?:ql)?:\/\/./, 'expected `postgres://user@host:5432/database`')
    .describe('The server and its database, `postgres://user@host:5432/database`. Take a password from `password`.'),
  password: z
    .string()
    .min(1)
    .optional()
    .describe('Password of the user: `${PGPASSWORD}` or `${file:/run/secrets/pg}`.'),
  tls: z
    .strictObject(tlsModeShape)
    .prefault({})
    .describe('How the connection is secured. Paths are relative to the job file.'),
  connections: z.int().min(1).max(64).default(4).describe('Connections that are open at the same time, at most.'),
  connect_timeout: duration.prefault('10s').describe('How long a connection may take to open.'),
  statement_timeout: duration
    .prefault('10m')
    .describe('How long one statement may take; then the write is tried again.'),
} as const

export type ConnectionOptions = z.infer<z.ZodObject<typeof connectionShape>>
