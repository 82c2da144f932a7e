/** The client of S3 as tests use it. */
import { S3Client } from '@aws-sdk/client-s3'
import type { S3Endpoint } from './core/s3.ts'

/** The caller destroys it. */
export function s3Client({ url, accessKeyId, secretAccessKey, region }: S3Endpoint): S3Client {
  return new S3Client({ endpoint: url, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
}
