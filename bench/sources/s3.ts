/** One object on versitygw; its plain client gets it by one GetObject. */
import { createReadStream, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { freshBucket } from '../../test/harness/servers/fresh.ts'
import { startPrivate } from '../../test/harness/servers/private.ts'
import { s3Client } from '../../test/harness/servers/s3-client.ts'
import type { BenchSource } from './source.ts'

export const source: BenchSource = {
  async start({ path }) {
    const server = await startPrivate('s3')
    const { endpoint } = server
    const bucket = await freshBucket(endpoint)
    const client = s3Client(endpoint)
    const bytes = statSync(path).size
    await client.send(
      new PutObjectCommand({
        Bucket: bucket.name,
        Key: 'events.ndjson',
        Body: createReadStream(path),
        ContentLength: bytes,
      }),
    )
    client.destroy()
    return readers(endpoint, bucket.name, bytes, () => server.end())
  },
}

/** A job, and the plain client, that read all of a bucket. */
export function readers(
  {
    url,
    accessKeyId,
    secretAccessKey,
  }: { readonly url: string; readonly accessKeyId: string; readonly secretAccessKey: string },
  bucket: string,
  bytes: number,
  end: () => Promise<void>,
): Awaited<ReturnType<BenchSource['start']>> {
  const script = join(dirname(dirname(fileURLToPath(import.meta.url))), 'peers', 'get-objects.ts')
  return {
    extract: { type: 's3', endpoint: url, bucket, access_key_id: accessKeyId, secret_access_key: secretAccessKey },
    clients: [
      {
        name: '@aws-sdk/client-s3',
        argv: [process.execPath, script, url, bucket, accessKeyId, secretAccessKey, String(bytes)],
      },
    ],
    end,
  }
}
