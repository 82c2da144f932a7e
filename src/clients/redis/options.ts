/** Options by which a component reaches Redis. */
import { z } from 'zod'
import { duration } from '../../core/job/units.ts'
import { tlsModeShape } from '../../core/tls.ts'

const serverUrl = z.string().regex(/^rediss?:\/\/./, 'expected `redis://user@host:6379/0`')

export const connectionShape = {
  url: z
    .union([serverUrl, z.array(serverUrl).min(1)])
    .describe(
      'The server, `redis://user@host:6379/0` (`rediss://`: always encrypted); of a cluster, or of Sentinels, some nodes as a list. User and database of the first one count. Take a password from `password`.',
    ),
  topology: z
    .enum(['single', 'cluster', 'sentinel'])
    .default('single')
    .describe('`cluster`: Redis Cluster. `sentinel`: `url` names Sentinels, and they name the server.'),
  master: z
    .string()
    .min(1)
    .optional()
    .describe('Name under which the Sentinels watch the server. Needed by, and only for, `topology: sentinel`.'),
  password: z
    .string()
    .min(1)
    .optional()
    .describe('Password of the user: `${REDIS_PASSWORD}` or `${file:/run/secrets/redis}`.'),
  sentinel_password: z.string().min(1).optional().describe('Password of the Sentinels, where they have one.'),
  tls: z
    .strictObject(tlsModeShape)
    .prefault({})
    .describe('How the connections are secured. Paths are relative to the job file.'),
  connect_timeout: duration.prefault('10s').describe('How long a connection may take to open.'),
  command_timeout: duration
    .prefault('30s')
    .describe('How long the server may take to answer; then the write is tried again.'),
  wait: z
    .strictObject({
      replicas: z.int().min(1).max(16).describe('Replicas of each master that must have the batch.'),
      timeout: duration.prefault('1s').describe('How long they may take; then the write is tried again.'),
    })
    .optional()
    .describe(
      'A batch counts as written when so many replicas have confirmed it (WAIT). Without it: when the master has.',
    ),
} as const

export type ConnectionOptions = z.infer<z.ZodObject<typeof connectionShape>>

/** For superRefine(): what only Sentinels need is there if, and only if, they are asked. */
export function masterGoesWithSentinel(
  { topology, master, sentinel_password }: Partial<ConnectionOptions>,
  context: z.RefinementCtx,
): void {
  const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
  if (topology === 'sentinel' && master === undefined) wrong('master', '`topology: sentinel` needs a `master`')
  if (topology === 'sentinel') return
  if (master !== undefined) wrong('master', '`master` is only for `topology: sentinel`')
  if (sentinel_password !== undefined) wrong('sentinel_password', 'only `topology: sentinel` has Sentinels')
}
