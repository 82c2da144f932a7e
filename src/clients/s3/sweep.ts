/**
 * Parts of uploads that were never finished: nobody sees them, and they are paid for. Those of batches that this loader had under
 * way are taken away at once, others of the same names when no upload can still be at it.
 */
import type { MultipartUpload, S3Client } from '@aws-sdk/client-s3'
import type { Leftovers } from '../objects/remote-place.ts'
import { explainS3 } from './errors.ts'
import { isGivenUp } from './parts.ts'

/** Longer than any upload takes. */
const ABANDONED_MS = 86_400_000

interface Swept {
  readonly s3: typeof import('@aws-sdk/client-s3')
  readonly client: S3Client
  readonly Bucket: string
  /** Of the place, with its `/`; empty for the whole bucket. */
  readonly prefix: string
  /** Below the place. MinIO knows uploads by whole keys only. */
  readonly below: string
}

/** A server that does not list uploads, or not for this user, is told of and left alone. */
export async function abortInterrupted(swept: Swept, { log, owns, underWay }: Leftovers): Promise<void> {
  const { s3, client, Bucket, prefix } = swept
  try {
    for (const { Key = '', UploadId, Initiated } of await uploadsOf(swept)) {
      const key = Key.slice(prefix.length)
      const startedMs = Initiated?.getTime() ?? Date.now()
      if (!owns(key) || !isGivenUp({ UploadId, Initiated })) continue
      if (startedMs > Date.now() - ABANDONED_MS && !(await underWay(key))) continue
      await client.send(new s3.AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
    }
  } catch (error) {
    const explained = explainS3(error, `take away interrupted uploads below s3://${Bucket}/${prefix}`)
    if (explained.retryable) throw explained
    log.warn({ code: explained.code }, `${explained.message}; give the bucket a lifecycle rule that does`)
  }
}

async function uploadsOf({ s3, client, Bucket, prefix, below }: Swept): Promise<readonly MultipartUpload[]> {
  const found: MultipartUpload[] = []
  let markers: { readonly KeyMarker?: string; readonly UploadIdMarker?: string } = {}
  for (;;) {
    const page = await client.send(new s3.ListMultipartUploadsCommand({ Bucket, Prefix: prefix + below, ...markers }))
    found.push(...(page.Uploads ?? []))
    const { IsTruncated, NextKeyMarker, NextUploadIdMarker } = page
    if (IsTruncated !== true || NextKeyMarker === undefined) return found
    markers = {
      KeyMarker: NextKeyMarker,
      ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }),
    }
  }
}
