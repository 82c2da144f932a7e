import { GetObjectCommand, ListBucketsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { expect, it } from 'vitest'
import { freshBucket, s3Client } from './fresh.ts'
import { serverSuite } from './suite.ts'

await serverSuite('the S3 server of the harness', ['s3'], ({ s3 }) => {
  it('keeps an object, and refuses to overwrite it under If-None-Match', async () => {
    await using bucket = await freshBucket(s3)
    const client = s3Client(s3)
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
    const client = s3Client({ ...s3, secretAccessKey: 'wrong' })
    try {
      await expect(client.send(new ListBucketsCommand({}))).rejects.toMatchObject({
        name: 'SignatureDoesNotMatch',
      })
    } finally {
      client.destroy()
    }
  })
})
