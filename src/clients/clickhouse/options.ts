/** Options by which a component reaches a ClickHouse server. */
import { z } from 'zod'
import { duration } from '../../core/job/units.ts'
import { tlsShape } from '../../core/tls.ts'

export const connectionShape = {
  url: z
    .string()
    .regex(/^https?:\/\/./, 'expected `https://user@host:8443/database`')
    .describe(
      'The HTTP interface of the server and the database, `https://user@host:8443/database`. Take a password from `password`.',
    ),
  password: z
    .string()
    .min(1)
    .optional()
    .describe('Password of the user: `${CLICKHOUSE_PASSWORD}` or `${file:/run/secrets/clickhouse}`.'),
  tls: z
    .strictObject(tlsShape)
    .prefault({})
    .describe(
      'How an `https` connection is secured; certificate and host name are always checked. Paths are relative to the job file.',
    ),
  connections: z.int().min(1).max(64).default(4).describe('Connections that are open at the same time, at most.'),
  connect_timeout: duration.prefault('10s').describe('How long the server may take to answer for the first time.'),
  statement_timeout: duration
    .prefault('10m')
    .describe(
      'How long the server may work on one statement. adflow waits 30 seconds longer, so that it hears the end.',
    ),
} as const

export type ConnectionOptions = z.infer<z.ZodObject<typeof connectionShape>>
