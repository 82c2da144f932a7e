import { basename } from 'node:path'
import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it } from 'vitest'
import s3 from '../../../src/loaders/s3.ts'
import { diagnosed, statuses } from '../../harness/diagnosis.ts'
import { S3_SERVERS, type S3Endpoint } from '../../harness/servers/core/s3.ts'
import { type Fresh, freshBucket } from '../../harness/servers/fresh.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { s3Client } from '../../harness/servers/s3-client.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

type Options = Readonly<Record<string, unknown>>

for (const server of S3_SERVERS)
  await serverSuite(`the diagnosis of S3, on ${server}`, [server], (servers) => {
    const endpoint: S3Endpoint = servers[server]
    let bucket: Fresh
    beforeAll(async () => {
      bucket = await freshBucket(endpoint)
    })
    afterAll(() => bucket.remove())
    const doctor = (options: Options = {}, env = {}) =>
      diagnosed(
        s3,
        {
          bucket: bucket.name,
          prefix: 'events',
          endpoint: endpoint.url,
          access_key_id: endpoint.accessKeyId,
          secret_access_key: endpoint.secretAccessKey,
          format: 'parquet',
          ...options,
        },
        env,
      )
    const ALL_OK = { reachable: 'ok', tls: 'ok', target: 'ok', permission: 'ok', clock: 'ok' }

    it('finds all in order, and writes nothing', async () => {
      expect(statuses(await doctor())).toEqual(ALL_OK)
      const client = s3Client(endpoint)
      expect((await client.send(new ListObjectsV2Command({ Bucket: bucket.name }))).KeyCount).toBe(0)
      client.destroy()
    })

    it('of a bucket that is not there says whether it would be made', async () => {
      const none = { bucket: 'nobody-made-this' }
      expect(statuses(await doctor(none))).toMatchObject({ reachable: 'ok', target: 'failed STORE_MISMATCH' })
      expect(statuses(await doctor({ ...none, create: 'missing' }))).toMatchObject({ target: 'ok' })
    })

    it('finds clocks that are apart', async () => {
      const now = () => Date.now() + 20 * 60_000
      expect(statuses(await doctor({}, { now }))).toEqual({ ...ALL_OK, clock: 'warning' })
    })

    it.for([
      [{ secret_access_key: 'a wrong one' }, 'failed STORE_DENIED'],
      [{ endpoint: 'http://127.0.0.1:1' }, 'failed STORE_UNAVAILABLE'],
    ] as const)('with %j only says that it cannot get in', async ([options, reachable]) => {
      const findings = await doctor(options)
      expect(statuses(findings)).toEqual({ reachable })
      expect(JSON.stringify(findings)).not.toContain('a wrong one')
    })
  })

await serverSuite('the diagnosis of S3, of a server that is read-only', ['s3'], () => {
  it('says that nothing may be written', async () => {
    await using own = await startPrivate('s3', { readOnly: true })
    // For versitygw a folder is a bucket.
    const bucket = basename(own.folder.make('disk/reports'))
    const { accessKeyId, secretAccessKey, url } = own.endpoint
    const options = {
      bucket,
      endpoint: url,
      access_key_id: accessKeyId,
      secret_access_key: secretAccessKey,
    }
    expect(statuses(await diagnosed(s3, { ...options, format: 'csv' }))).toMatchObject({
      target: 'ok',
      permission: 'failed STORE_DENIED',
    })
  })
})
