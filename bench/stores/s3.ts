/**
 * curl PUT of the Parquet file as one object: bytes that nobody looks at. And the way without a loader: adflow writes Parquet to the disk, from
 * where curl PUTs it.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { emptyBucket, freshBucket } from '../../test/harness/servers/fresh.ts'
import { startPrivate } from '../../test/harness/servers/private.ts'
import type { BenchStore } from './store.ts'

export const store: BenchStore = {
  format: 'parquet',
  async start({ path, folder, run }) {
    const server = await startPrivate('s3')
    const { url, region, accessKeyId, secretAccessKey } = server.endpoint
    const bucket = await freshBucket(server.endpoint)
    const signed = [
      '--user',
      `${accessKeyId}:${secretAccessKey}`,
      '--aws-sigv4',
      `aws:amz:${region}:s3`,
      '-H',
      'x-amz-content-sha256: UNSIGNED-PAYLOAD',
    ]
    const put = ['curl', '-sS', '--fail-with-body', ...signed, '-T']
    const target = `${url}/${bucket.name}`
    const out = join(folder, 'out')
    const local = { type: 'files', format: 'parquet', path: out }
    return {
      load: {
        type: 's3',
        endpoint: url,
        bucket: bucket.name,
        prefix: 'events',
        access_key_id: accessKeyId,
        secret_access_key: secretAccessKey,
        format: 'parquet',
      },
      tools: [
        { name: 'curl PUT', argv: [...put, path, `${target}/copied.parquet`] },
        {
          name: 'adflow to disk, curl PUT',
          argv: [
            'sh',
            '-ec',
            `${words(run('local', local))}; for f in ${out}/*.parquet; do ${words(put)} "$f" ${target}/; done`,
          ],
        },
      ],
      empty: () => {
        rmSync(out, { recursive: true, force: true })
        return emptyBucket(server.endpoint, bucket.name)
      },
      end: () => server.end(),
    }
  },
}

function words(argv: readonly string[]): string {
  return argv.map((word) => `'${word}'`).join(' ')
}
