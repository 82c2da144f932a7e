/** Options by which a component reaches a bucket of S3, or of anything that speaks its protocol. */
import { z } from 'zod'
import { byteSize, duration } from '../../core/job/units.ts'
import { tlsShape } from '../../core/tls.ts'

const SMALLEST_PART_BYTES = 5 * 2 ** 20
const LARGEST_PART_BYTES = 512 * 2 ** 20

export const bucketShape = {
  bucket: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'expected the name of a bucket, without `s3://` and without a path')
    .describe('The bucket.'),
  prefix: z
    .string()
    .regex(
      /^(?!\.{1,2}(?:\/|$))[^/\p{Cc}]+(?:\/(?!\.{1,2}(?:\/|$))[^/\p{Cc}]+)*$/u,
      'expected folders such as `ads/events`, without `/` at either end, and without `.` and `..`',
    )
    .optional()
    .describe('What keys begin with, such as `ads/events`. Default: the whole bucket.'),
  region: z
    .string()
    .min(1)
    .optional()
    .describe('Default: as the environment names it (AWS_REGION, shared configuration), with `endpoint` `us-east-1`.'),
  endpoint: z
    .string()
    .regex(/^https?:\/\/[^/?#]+\/?$/, 'expected `https://host:port`')
    .optional()
    .describe('URL of a server that speaks the protocol of S3, such as MinIO. Default: AWS.'),
  force_path_style: z
    .boolean()
    .optional()
    .describe('The bucket in the path of URLs instead of in the host name. Default: true with `endpoint`, else false.'),
  access_key_id: z.string().min(1).optional().describe('Default: credentials as AWS tools find them.'),
  secret_access_key: z
    .string()
    .min(1)
    .optional()
    .describe('Goes with `access_key_id`: `${S3_SECRET}` or `${file:/run/secrets/s3}`.'),
  session_token: z.string().min(1).optional().describe('Goes with temporary keys.'),
  tls: z
    .strictObject({
      ca: tlsShape.ca,
    })
    .prefault({})
    .describe('How an https connection is checked; it always is. Paths are relative to the job file.'),
  connect_timeout: duration.prefault('10s').describe('How long a connection may take to open.'),
  timeout: duration.prefault('1m').describe('How long the server may say nothing; then the request is tried again.'),
} as const

export const objectShape = {
  part_size: byteSize
    .refine((bytes) => bytes >= SMALLEST_PART_BYTES && bytes <= LARGEST_PART_BYTES, 'expected 5MiB to 512MiB')
    .prefault('16MiB')
    .describe('A larger file is uploaded in parts of this size. Four of them are held in memory.'),
  storage_class: z
    .string()
    .regex(/^[A-Z0-9_]+$/, 'expected a storage class such as `STANDARD_IA`')
    .optional()
    .describe('Storage class of data objects. Manifests stay in the default class of the bucket.'),
  encryption: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('s3').describe('With keys of S3 (SSE-S3, AES-256).') }),
      z.strictObject({
        type: z.literal('kms').describe('With a key of the key management service (SSE-KMS).'),
        key: z.string().min(1).optional().describe('Id or ARN of the key. Default: the one that AWS keeps for S3.'),
      }),
    ])
    .optional()
    .describe('Encryption on the server. Default: as the bucket has it.'),
} as const

const bucketOptions = z.object(bucketShape)
const objectOptions = z.object(objectShape)
export type BucketOptions = z.infer<typeof bucketOptions>
export type ObjectOptions = z.infer<typeof objectOptions>

/** For superRefine(): half a pair of keys is a mistake. */
export function keysGoTogether(options: BucketOptions, context: z.RefinementCtx): void {
  const { access_key_id: id, secret_access_key: secret, session_token: token } = options
  if (id !== undefined && secret === undefined)
    context.addIssue({ code: 'custom', path: ['secret_access_key'], message: '`access_key_id` needs it' })
  if (id === undefined && (secret ?? token) !== undefined)
    context.addIssue({ code: 'custom', path: ['access_key_id'], message: 'the other keys need it' })
}
