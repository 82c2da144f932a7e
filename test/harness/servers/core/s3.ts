/** What all S3-compatible servers of the harness share. */
export interface S3Endpoint extends Record<string, string> {
  readonly url: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly region: string
}

export const S3_KEYS = { accessKeyId: 'adflow', secretAccessKey: 'adflow-secret', region: 'us-east-1' } as const

/**
 * The servers on which what is said of S3 must hold: one suite for each. The second takes minutes to build, and is for
 * `npm run test:long`.
 */
export const S3_SERVERS: readonly ('s3' | 'minio')[] =
  process.env['ADFLOW_TEST_LONG'] === '1' ? ['s3', 'minio'] : ['s3']
