/** A prefix of a bucket as a folder of this machine, by the SDK itself. */
import { mkdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { GetObjectCommand, paginateListObjectsV2, type S3Client } from '@aws-sdk/client-s3'

/** Returns the keys, relative to the prefix. */
export async function download(
  client: S3Client,
  bucket: string,
  prefix: string,
  folder: string,
): Promise<readonly string[]> {
  const keys: string[] = []
  for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: prefix }))
    for (const { Key = '' } of Contents) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }))
      const key = Key.slice(prefix.length)
      mkdirSync(dirname(join(folder, key)), { recursive: true })
      await writeFile(join(folder, key), (await Body?.transformToByteArray()) ?? '')
      keys.push(key)
    }
  return keys
}
