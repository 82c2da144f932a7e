/** Objects of 500 rows each on versitygw; the plain client gets them sixteen at a time. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { freshBucket } from '../../test/harness/servers/fresh.ts'
import { startPrivate } from '../../test/harness/servers/private.ts'
import { s3Client } from '../../test/harness/servers/s3-client.ts'
import { readers } from './s3.ts'
import type { BenchSource } from './source.ts'

const ROWS = 500

export const source: BenchSource = {
  async start({ path }) {
    const server = await startPrivate('s3')
    const { endpoint } = server
    const bucket = await freshBucket(endpoint)
    const client = s3Client(endpoint)
    let [bytes, count] = [0, 0]
    let lines: string[] = []
    const put = async () => {
      const body = Buffer.from(`${lines.join('\n')}\n`)
      const key = `2026/${String(count).padStart(6, '0')}.ndjson`
      await client.send(new PutObjectCommand({ Bucket: bucket.name, Key: key, Body: body }))
      bytes += body.length
      count += 1
      lines = []
    }
    for await (const line of createInterface({ input: createReadStream(path) })) {
      lines.push(line)
      if (lines.length === ROWS) await put()
    }
    if (lines.length > 0) await put()
    client.destroy()
    return readers(endpoint, bucket.name, bytes, () => server.end())
  },
}
