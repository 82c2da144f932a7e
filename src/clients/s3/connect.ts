/** One client per component. Nothing is asked of the server before the first request. */
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3'
import { registerSecret } from '../../core/job/secrets.ts'
import { tlsMaterial } from '../../core/tls.ts'
import { readIntoBuffers } from './into-buffers.ts'
import type { BucketOptions } from './options.ts'

/** The client itself tries again where nothing was said, and where the server is busy. */
const ATTEMPTS = 3
const CONNECTIONS = 32

export function registerKeys({ secret_access_key, session_token }: BucketOptions): void {
  for (const secret of [secret_access_key, session_token]) if (secret !== undefined) registerSecret(secret)
}

export async function connectS3(options: BucketOptions, baseDir: string): Promise<S3Client> {
  const { S3Client } = await import('@aws-sdk/client-s3')
  const { endpoint, force_path_style: pathStyle, tls } = options
  const region = options.region ?? (endpoint === undefined ? undefined : 'us-east-1')
  const config: S3ClientConfig = {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...credentialsOf(options),
    forcePathStyle: pathStyle ?? endpoint !== undefined,
    maxAttempts: ATTEMPTS,
    requestHandler: {
      connectionTimeout: options.connect_timeout,
      socketTimeout: options.timeout,
      httpAgent: { keepAlive: true, maxSockets: CONNECTIONS },
      httpsAgent: { keepAlive: true, maxSockets: CONNECTIONS, ...tlsMaterial(tls, baseDir) },
    },
  }
  const client = new S3Client(config)
  readIntoBuffers(client, {
    connectMs: options.connect_timeout,
    silenceMs: options.timeout,
    connections: CONNECTIONS,
    ...tlsMaterial(tls, baseDir),
  })
  return client
}

function credentialsOf(options: BucketOptions): Pick<S3ClientConfig, 'credentials'> {
  const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, session_token: sessionToken } = options
  if (accessKeyId === undefined || secretAccessKey === undefined) return {}
  return { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } }
}
