import { basename, join } from 'node:path'
import { S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll } from 'vitest'
import s3 from '../../src/loaders/s3.ts'
import { download } from '../harness/downloaded.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { S3_SERVERS, type S3Endpoint } from '../harness/servers/core/s3.ts'
import { type Fresh, freshBucket } from '../harness/servers/fresh.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { rowsOfFiles, writtenFiles } from '../harness/written-files.ts'
import { type LoaderFixture, loaderConformance } from './suites/loader.ts'

type Options = Readonly<Record<string, unknown>>

let downloads = 0

/** Each test has a prefix of its own in the bucket of the file. */
function bucketOf(endpoint: S3Endpoint, bucket: () => string, own: Options): LoaderFixture<unknown> {
  const options = {
    bucket: 'set-by-place',
    endpoint: endpoint.url,
    access_key_id: endpoint.accessKeyId,
    secret_access_key: endpoint.secretAccessKey,
    ...own,
  }
  return {
    definition: s3 as LoaderFixture<unknown>['definition'],
    type: 's3',
    options,
    other: { ...options, name: 'other-' },
    stepsOf: requestsAsSteps,
    place: (folder) => ({ bucket: bucket(), prefix: basename(folder) }),
    rows: async (target, folder, columns) => {
      downloads += 1
      const to = join(folder, 'spill', `downloaded-${downloads}`)
      const client = s3Client(endpoint)
      const keys = await download(client, bucket(), `${target['prefix']}/`, to)
      client.destroy()
      return rowsOfFiles(
        writtenFiles(keys, target).map((key) => join(to, key)),
        target,
        columns,
      )
    },
  }
}

function requestsAsSteps(dying: DyingProcess): () => void {
  const { send } = S3Client.prototype
  Object.assign(S3Client.prototype, {
    send(this: S3Client, ...args: unknown[]) {
      dying.step()
      return Reflect.apply(send, this, args)
    },
  })
  return () => Object.assign(S3Client.prototype, { send })
}

for (const server of S3_SERVERS)
  await serverSuite(`the loader of S3, on ${server}`, [server], (servers) => {
    const endpoint: S3Endpoint = servers[server]
    let bucket: Fresh
    beforeAll(async () => {
      bucket = await freshBucket(endpoint)
    })
    afterAll(() => bucket.remove())
    const of = (options: Options) => bucketOf(endpoint, () => bucket.name, options)

    loaderConformance('s3 parquet', of({ format: 'parquet' }))
    loaderConformance(
      's3 ndjson, partitioned and compressed',
      of({ format: 'ndjson', compression: 'gzip', partition: { part: 'id % 2' } }),
    )
  })
