/** Options by which a component reaches Elasticsearch or OpenSearch. */
import { z } from 'zod'
import { byteSize, duration } from '../../core/job/units.ts'
import { tlsShape } from '../../core/tls.ts'

export const connectionShape = {
  url: z
    .string()
    .regex(/^https?:\/\/./, 'expected `https://search.example:9200`')
    .describe(
      'A node, or what stands before the nodes: `https://search.example:9200`. A path before the API may follow.',
    ),
  user: z.string().min(1).optional().describe('User for basic authentication, together with `password`.'),
  password: z
    .string()
    .min(1)
    .optional()
    .describe('Password of the user: `${ELASTIC_PASSWORD}` or `${file:/run/secrets/elastic}`.'),
  api_key: z
    .string()
    .min(1)
    .optional()
    .describe('API key in its encoded form (Elasticsearch), in place of `user` and `password`.'),
  tls: z
    .strictObject(tlsShape)
    .prefault({})
    .describe('Over https the certificate and the host name are always checked. Paths are relative to the job file.'),
  connections: z.int().min(1).max(64).default(4).describe('Connections that are open at the same time, at most.'),
  connect_timeout: duration.prefault('10s').describe('How long a connection may take to open.'),
  request_timeout: duration
    .prefault('2m')
    .describe('How long the answer to one request may take; then the batch is tried again.'),
  requests: z
    .strictObject({
      bytes: byteSize
        .prefault('8MB')
        .describe(
          'A batch goes in requests of about so many bytes; one document larger than that is a request of its own.',
        ),
      parallel: z
        .int()
        .min(1)
        .max(16)
        .default(2)
        .describe('Requests of one batch that are under way at the same time.'),
    })
    .prefault({})
    .describe('How a batch is divided.'),
} as const

export type ConnectionOptions = z.infer<z.ZodObject<typeof connectionShape>>
