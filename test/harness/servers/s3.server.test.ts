import { GetObjectCommand, ListBucketsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { expect, it } from 'vitest'
import { S3_SERVERS, type S3Endpoint } from './core/s3.ts'
import { freshBucket } from './fresh.ts'
import { startPrivate } from './private.ts'
import { s3Client } from './s3-client.ts'
import { serverSuite } from './suite.ts'

for (const server of S3_SERVERS)
  await serverSuite(`S3 of the harness, by ${server}`, [server], (servers) => {
    const endpoint: S3Endpoint = servers[server]

    it('keeps an object, and refuses to overwrite it under If-None-Match', async () => {
      await using bucket = await freshBucket(endpoint)
      const client = s3Client(endpoint)
      const put = (body: string) =>
        client.send(new PutObjectCommand({ Bucket: bucket.name, Key: 'a/b', Body: body, IfNoneMatch: '*' }))
      try {
        await put('first')
        await expect(put('second')).rejects.toMatchObject({ $metadata: { httpStatusCode: 412 } })
        const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket.name, Key: 'a/b' }))
        expect(await Body?.transformToString()).toBe('first')
      } finally {
        client.destroy()
      }
    })

    it('refuses a wrong secret', async () => {
      const client = s3Client({ ...endpoint, secretAccessKey: 'wrong' })
      try {
        await expect(client.send(new ListBucketsCommand({}))).rejects.toMatchObject({
          name: 'SignatureDoesNotMatch',
        })
      } finally {
        client.destroy()
      }
    })

    it('fills up a small disk', async () => {
      await using own = await startPrivate(server, { diskSize: '16m' })
      await using bucket = await freshBucket(own.endpoint)
      const client = s3Client(own.endpoint)
      const put = (bytes: number) =>
        client.send(new PutObjectCommand({ Bucket: bucket.name, Key: 'a', Body: Buffer.alloc(bytes) }))
      try {
        await put(1_000_000)
        await expect(put(32_000_000)).rejects.toMatchObject({ $fault: 'server' })
      } finally {
        client.destroy()
      }
    })
  })
