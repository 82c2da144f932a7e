/** The plain client of S3: gets every object of a bucket, sixteen at a time, and counts bytes. `get-objects.ts URL BUCKET ID SECRET BYTES` */
import { GetObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3'
import pLimit from 'p-limit'

const [endpoint = '', bucket = '', accessKeyId = '', secretAccessKey = '', expected] = process.argv.slice(2)
const client = new S3Client({
  endpoint,
  region: 'us-east-1',
  forcePathStyle: true,
  credentials: { accessKeyId, secretAccessKey },
})
const limit = pLimit(16)
let bytes = 0
const gets: Promise<void>[] = []
for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: bucket }))
  for (const { Key } of Contents)
    gets.push(
      limit(async () => {
        const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }))
        for await (const piece of Body as AsyncIterable<Uint8Array>) bytes += piece.byteLength
      }),
    )
await Promise.all(gets)
client.destroy()
if (bytes !== Number(expected)) throw new Error(`got ${bytes} bytes, expected ${expected}`)
