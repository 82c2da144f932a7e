import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll } from 'vitest'
import s3 from '../../src/extractors/s3.ts'
import { S3_SERVERS, type S3Endpoint } from '../harness/servers/core/s3.ts'
import { type Fresh, freshBucket, freshName } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { fileSample, parquetSample, SAMPLES } from './fixtures/files.ts'
import { type ExtractorFixture, extractorConformance } from './suites/extractor.ts'
import { type FaultySource, SOURCE_PARTS, sourceFaults } from './suites/source-faults.ts'

const keysOf = ({ url, accessKeyId, secretAccessKey }: S3Endpoint) => ({
  endpoint: url,
  access_key_id: accessKeyId,
  secret_access_key: secretAccessKey,
})

/** The files of a sample as objects below a prefix of their own. */
async function objects(endpoint: S3Endpoint, bucket: string, sample: ExtractorFixture): Promise<ExtractorFixture> {
  const prefix = freshName()
  const client = s3Client(endpoint)
  for (const lane of Object.keys(sample.lanes)) {
    const body = await readFile(join(sample.baseDir, lane))
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${lane}`, Body: body }))
  }
  client.destroy()
  const { path: files, ...options } = sample.options
  const place = { bucket, prefix, ...keysOf(endpoint), range: '64KiB' }
  return { ...sample, options: { ...options, ...place, files }, broken: { ...options, ...place, files: 'nothing-*' } }
}

async function faulty(kind: 's3' | 'minio'): Promise<FaultySource> {
  const server = await startPrivate(kind)
  const { endpoint } = server
  const bucket = await freshBucket(endpoint)
  const client = s3Client(endpoint)
  for (const [name, text] of Object.entries(SOURCE_PARTS))
    await client.send(new PutObjectCommand({ Bucket: bucket.name, Key: `rows/${name}`, Body: text }))
  client.destroy()
  return {
    extract: {
      type: 's3',
      bucket: bucket.name,
      prefix: 'rows',
      files: '*.ndjson',
      range: '64KiB',
      ...keysOf(endpoint),
      retry: { attempts: 3, initial: '20ms', max: '50ms' },
    },
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

for (const server of S3_SERVERS)
  await serverSuite(`the extractor of S3, on ${server}`, [server], (servers) => {
    const endpoint: S3Endpoint = servers[server]
    let bucket: Fresh
    beforeAll(async () => {
      bucket = await freshBucket(endpoint)
    })
    afterAll(() => bucket.remove())

    extractorConformance('s3: json values in gzip', s3, async () =>
      objects(endpoint, bucket.name, await fileSample(SAMPLES['json values in gzip'])),
    )
    extractorConformance('s3: parquet', s3, async () => objects(endpoint, bucket.name, await parquetSample()))
    sourceFaults(`s3 on ${server}`, () => faulty(server))
  })
