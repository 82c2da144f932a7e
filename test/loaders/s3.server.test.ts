import { execFile } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import s3 from '../../src/loaders/s3.ts'
import { cutAnswer, failing } from '../harness/cut-answer.ts'
import { download } from '../harness/downloaded.ts'
import { relayTo } from '../harness/http-relay.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { makeCertificate } from '../harness/servers/core/certificates.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'
import { S3_KEYS, S3_SERVERS, type S3Endpoint } from '../harness/servers/core/s3.ts'
import { type Fresh, freshBucket } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'

type Options = Readonly<Record<string, unknown>>

const ROWS = "SELECT i::BIGINT AS id, 'name ' || i AS name FROM range(4) t(i)"
/** About 12 MB, which no encoding makes smaller. */
const LARGE = 'SELECT i::BIGINT AS id, md5(i::VARCHAR) || md5((-i)::VARCHAR) AS name FROM range(170000) t(i)'
const CHILD = fileURLToPath(new URL('../harness/loader-child.ts', import.meta.url))
const IN_PARTS = { format: 'csv', part_size: '5MiB' }

const keysOf = ({ url, accessKeyId, secretAccessKey }: S3Endpoint): Options => ({
  endpoint: url,
  access_key_id: accessKeyId,
  secret_access_key: secretAccessKey,
  connect_timeout: '2s',
  timeout: '5s',
})

for (const server of S3_SERVERS)
  await serverSuite(`the loader of S3, by ${server}`, [server, 'toxiproxy'], (servers) => {
    const endpoint: S3Endpoint = servers[server]
    let shared: Fresh
    let client: S3Client
    let folder: string
    let bench: LoaderBench
    let prefix: string
    beforeAll(async () => {
      shared = await freshBucket(endpoint)
      client = s3Client(endpoint)
    })
    afterAll(async () => {
      client.destroy()
      await shared.remove()
    })
    beforeEach(async () => {
      folder = newFolder()
      prefix = randomUUID()
      bench = await LoaderBench.open({ definition: s3 as LoaderDefinition, folder, options: [] })
    })
    afterEach(() => {
      bench.close()
      removeFolder(folder)
    })

    const loaderOf = (options: Options = {}, id?: string) =>
      bench.create({ bucket: shared.name, prefix, format: 'parquet', ...keysOf(endpoint), ...options }, id)
    const opened = (options: Options = {}, rows = ROWS) => bench.open(loaderOf(options), rows)
    const keys = async (from = client, bucket = shared.name) => {
      const { Contents = [] } = await from.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }))
      return Contents.map(({ Key = '' }) => Key.slice(prefix.length + 1).replace(/[0-9a-f]{64}|[0-9a-f]{24}/, 'T'))
    }
    /** MinIO knows them by whole keys only. */
    const uploads = async (key: string) =>
      (await client.send(new ListMultipartUploadsCommand({ Bucket: shared.name, Prefix: `${prefix}/${key}` })))
        .Uploads ?? []
    /** What is published, read by the SDK; each object has the bytes that its manifest names. */
    const published = async (from = client, bucket = shared.name) => {
      const to = join(folder, 'spill', randomUUID())
      const found = await download(from, bucket, `${prefix}/`, to)
      const manifests = await Promise.all(
        found
          .filter((key) => key.startsWith('_adflow/'))
          .map(async (key) => {
            const { Body } = await from.send(new GetObjectCommand({ Bucket: bucket, Key: `${prefix}/${key}` }))
            return JSON.parse((await Body?.transformToString()) ?? '')
          }),
      )
      for (const manifest of manifests)
        for (const { path, sha256 } of manifest.files ?? []) {
          const { Body } = await from.send(new GetObjectCommand({ Bucket: bucket, Key: `${prefix}/${path}` }))
          const bytes = (await Body?.transformToByteArray()) ?? ''
          expect(createHash('sha256').update(bytes).digest('hex'), path).toBe(sha256)
        }
      const files = found.filter((key) => !key.startsWith('_adflow/')).map((key) => join(to, key))
      return { manifests, files }
    }
    const ids = async (from = client, bucket = shared.name, read = 'read_csv') => {
      const { files } = await published(from, bucket)
      if (files.length === 0) return { rows: 0, ids: 0 }
      const list = files.map((file) => `'${file}'`).join(', ')
      const [row] = await bench.session.rows(
        `SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids FROM ${read}([${list}])`,
      )
      return row
    }
    describe('what it makes', () => {
      it('objects by partition, and a manifest', async () => {
        const loader = await opened({ partition: { odd: 'id % 2', name: "'../../' || name" } })
        await bench.write(loader, { rows: ROWS })
        expect(await keys()).toEqual([
          '_adflow/T.parquet.json',
          'odd=0/name=..%2F..%2Fname 0/T.parquet',
          'odd=0/name=..%2F..%2Fname 2/T.parquet',
          'odd=1/name=..%2F..%2Fname 1/T.parquet',
          'odd=1/name=..%2F..%2Fname 3/T.parquet',
        ])
        expect(await ids(client, shared.name, 'read_parquet')).toEqual({ rows: 4, ids: 4 })
      })

      it('large objects in parts, whole and with a digest that holds', async () => {
        const loader = await opened(IN_PARTS, LARGE)
        const { outputs } = await bench.write(loader, { rows: LARGE })
        expect(await ids()).toEqual({ rows: 170_000, ids: 170_000 })
        expect(await uploads(basename(String(outputs[0])))).toEqual([])
      })

      it.for([
        [{ storage_class: 'STANDARD_IA' }, { 'x-amz-storage-class': 'STANDARD_IA' }],
        [{ encryption: { type: 's3' } }, { 'x-amz-server-side-encryption': 'AES256' }],
        [
          { encryption: { type: 'kms', key: 'alias/ads' } },
          {
            'x-amz-server-side-encryption': 'aws:kms',
            'x-amz-server-side-encryption-aws-kms-key-id': 'alias/ads',
          },
        ],
      ] as const)('%j is asked for, with a checksum and a condition', async ([options, headers]) => {
        const refusal = '<Error><Code>NotImplemented</Code><Message>not on this server</Message></Error>'
        // Not every server of the tests has keys, or classes.
        await using relay = await relayTo(endpoint.url, ({ method, path }) => {
          if (method !== 'PUT') return undefined
          return path.includes('/_adflow/') ? { status: 200, headers: { etag: '"1"' } } : { status: 501, body: refusal }
        })
        const loader = await opened({ ...options, endpoint: relay.url })
        await failing(bench.write(loader, { rows: ROWS }))
        const put = relay.asked.find(({ headers: own }) => own['x-amz-meta-adflow-sha256'] !== undefined)
        expect(put?.headers).toMatchObject({
          ...headers,
          'if-none-match': '*',
          'x-amz-checksum-sha256': expect.stringMatching(/=$/),
        })
      })

      it('a bucket, when it is told to', async () => {
        const bucket = `made-${prefix.slice(0, 8)}`
        expect(await failing(opened({ bucket }))).toMatchObject({
          code: 'STORE_MISMATCH',
          hint: expect.stringContaining('create: missing'),
        })
        const loader = await opened({ bucket, create: 'missing' })
        await opened({ bucket, create: 'missing' })
        await bench.write(loader, { rows: ROWS })
        await client.send(new HeadBucketCommand({ Bucket: bucket }))
      })
    })

    describe('an attempt that was killed', () => {
      it('leaves parts of an upload, which are gone when another process opens the loader; those of others stay', async () => {
        const { token, job, source, range, digest, clock } = await bench.batch({ rows: ROWS })
        const begin = (key: string) =>
          client.send(new CreateMultipartUploadCommand({ Bucket: shared.name, Key: `${prefix}/${key}` }))
        // What a killed process leaves: the state of the batch, and an upload.
        const key = `${token.slice(0, 24)}.csv`
        const state = { version: 1, job, source, range, token, digest, clock, loader: 'store', attempt: '0', left: [] }
        await client.send(
          new PutObjectCommand({
            Bucket: shared.name,
            Key: `${prefix}/_adflow/${token}.csv.json`,
            Body: JSON.stringify({ ...state, pending: [{ path: key, bytes: 1, sha256: '0' }] }),
          }),
        )
        const { UploadId } = await begin(key)
        const upload = { Bucket: shared.name, Key: `${prefix}/${key}`, UploadId }
        await client.send(new UploadPartCommand({ ...upload, PartNumber: 1, Body: 'part' }))
        const others = ['somebody-elses.csv', `${'0'.repeat(24)}.csv`]
        for (const other of others) await begin(other)
        expect(await uploads(key)).toHaveLength(1)
        const options = { bucket: shared.name, prefix, ...keysOf(endpoint), format: 'csv' }
        await promisify(execFile)(process.execPath, [
          CHILD,
          JSON.stringify({ type: 's3', folder, options, from: 0, to: 1 }),
        ])
        expect(await uploads(key)).toEqual([])
        for (const other of others) expect(await uploads(other)).toHaveLength(1)
      })

      it('leaves an object with other bytes, which is replaced, and objects of other partitions, which go', async () => {
        const first = await opened({ partition: { part: 'id' } })
        let objects = 0
        // Three of four come through.
        await using relay = await relayTo(endpoint.url, ({ method, headers }) => {
          if (method !== 'PUT' || headers['x-amz-meta-adflow-sha256'] === undefined) return undefined
          objects += 1
          return objects > 3 ? { status: 400, body: '<Error><Code>InvalidRequest</Code></Error>' } : undefined
        })
        const doomed = await opened({ partition: { part: 'id' }, endpoint: relay.url })
        expect(await failing(bench.write(doomed, { rows: ROWS }))).toMatchObject({ code: 'STORE_MISMATCH' })
        expect((await keys()).length).toBe(4)
        const changed = ROWS.replace("'name ' || i", "'other name ' || i")
        expect(await bench.write(await opened({ partition: { part: 'id % 2' } }), { rows: changed })).toMatchObject({
          rows: 4,
          repeated: false,
        })
        expect(await keys()).toEqual(['_adflow/T.parquet.json', 'part=0/T.parquet', 'part=1/T.parquet'])
        expect(await ids(client, shared.name, 'read_parquet')).toEqual({ rows: 4, ids: 4 })
        expect(await bench.write(first, { rows: ROWS })).toMatchObject({ rows: 4, repeated: true })
      })
    })

    describe('eight writers of one batch', () => {
      it('with the same bytes: one publishes it, the others find it', async () => {
        const loaders = await Promise.all(Array.from({ length: 8 }, () => opened()))
        const sessions = await Promise.all(loaders.map(() => bench.connect()))
        const receipts = await Promise.all(
          loaders.map((loader, index) => bench.write(loader, { rows: ROWS, session: sessions[index] as never })),
        )
        for (const session of sessions) session.close()
        expect(receipts.filter(({ repeated }) => !repeated)).toHaveLength(1)
        expect(await keys()).toEqual(['T.parquet', '_adflow/T.parquet.json'])
        expect(await ids(client, shared.name, 'read_parquet')).toEqual({ rows: 4, ids: 4 })
      })

      it('with other bytes each: what is there is what the manifest says, and once', async () => {
        const loaders = await Promise.all(
          Array.from({ length: 8 }, (_, index) =>
            opened({ compression: ['zstd', 'snappy', 'gzip', 'none'][index % 4] }),
          ),
        )
        const sessions = await Promise.all(loaders.map(() => bench.connect()))
        const spec = (index: number) => ({ rows: ROWS, session: sessions[index] as never })
        const settled = await Promise.all(loaders.map((loader, index) => failing(bench.write(loader, spec(index)))))
        for (const error of settled)
          if (error !== undefined) expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
        // Whoever was the last to put its bytes where others were published was told to try again, and puts that right.
        const first = [...loaders.keys()].sort(
          (a, b) => Number(settled[b] !== undefined) - Number(settled[a] !== undefined),
        )
        for (const index of first)
          expect(await bench.write(loaders[index] as never, spec(index))).toMatchObject({ rows: 4 })
        for (const session of sessions) session.close()
        expect(await keys()).toEqual(['T.parquet', '_adflow/T.parquet.json'])
        expect(await ids(client, shared.name, 'read_parquet')).toEqual({ rows: 4, ids: 4 })
      })
    })

    describe('a writer that stood still before it replaced what it had looked at', () => {
      it('publishes what it has put where another has taken the same over and published it meanwhile', async () => {
        await using refusing = await relayTo(endpoint.url, ({ method, path, headers }) =>
          method === 'PUT' && path.includes('/_adflow/') && headers['if-match'] !== undefined
            ? { status: 400, body: '<Error><Code>InvalidRequest</Code></Error>' }
            : undefined,
        )
        const doomed = await opened({ compression: 'zstd', endpoint: refusing.url })
        expect(await failing(bench.write(doomed, { rows: ROWS }))).toMatchObject({ code: 'STORE_MISMATCH' })

        const other = await opened({ compression: 'zstd' })
        const session = await bench.connect()
        let meanwhile: unknown
        await using slow = await relayTo(endpoint.url, async ({ method, headers }) => {
          if (method === 'PUT' && headers['x-amz-meta-adflow-sha256'] !== undefined)
            meanwhile ??= await bench.write(other, { rows: ROWS, session: session as never })
          return undefined
        })
        const late = await opened({ compression: 'none', endpoint: slow.url })
        expect(await bench.write(late, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
        session.close()
        expect(meanwhile).toMatchObject({ rows: 4, repeated: false })
        await published()
        for (const loader of [other, late])
          expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: true })
        expect(await keys()).toEqual(['T.parquet', '_adflow/T.parquet.json'])
      })

      it('and was killed when it had: its next attempt publishes its own bytes anew, and no other does', async () => {
        const [late, other] = [await opened({ compression: 'none' }), await opened({ compression: 'zstd' })]
        expect(await bench.write(other, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
        await bench.write(await opened({ compression: 'none', prefix: `${prefix}-late` }), { rows: ROWS })
        const put = await download(client, shared.name, `${prefix}-late/`, join(folder, 'late'))
        const name = put.find((key) => !key.startsWith('_adflow/')) ?? ''
        const Body = await readFile(join(folder, 'late', name))
        await client.send(new PutObjectCommand({ Bucket: shared.name, Key: `${prefix}/${name}`, Body }))
        expect(await failing(bench.write(other, { rows: ROWS }))).toMatchObject({ code: 'STORE_MISMATCH' })
        expect(await bench.write(late, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
        await published()
        expect(await bench.write(other, { rows: ROWS })).toMatchObject({ rows: 4, repeated: true })
      })
    })

    describe('a connection that is cut', () => {
      it('wherever the server is in its answer: the next attempt takes over what is there, once', async () => {
        await using proxy = await proxyFor(servers.toxiproxy, endpoint.url)
        const loader = await opened({ endpoint: proxy.url })
        const answers: string[] = []
        for (let bytes = 1; bytes < 2200; bytes += 200) {
          const spec = { at: bytes, rows: ROWS, lane: 'cut' }
          answers.push(await cutAnswer({ bench, loader, proxy }, bytes, spec, 4))
        }
        expect(answers).toContain('lost')
        expect(answers).toContain('whole')
        expect(await ids(client, shared.name, 'read_parquet')).toEqual({ rows: 4 * answers.length, ids: 4 })
      }, 120_000)

      it.for([
        ['the first that publishes', 1, { repeated: false }, { repeated: true }],
        [
          'all that publish, and whatever follows',
          99,
          { code: 'STORE_UNAVAILABLE', retryable: true },
          { repeated: true },
        ],
      ] as const)('just when the last request was done, %s: it is there once', async ([, lost, first, again]) => {
        let left: number = lost
        let publishing = false
        await using relay = await relayTo(endpoint.url, ({ method, path, headers }) => {
          publishing ||= method === 'PUT' && path.includes('/_adflow/') && headers['if-match'] !== undefined
          if (!publishing || left === 0) return undefined
          left -= 1
          return 'lose'
        })
        const loader = await opened({ endpoint: relay.url })
        const outcome = await bench.write(loader, { rows: ROWS }).catch((error: unknown) => error)
        expect(outcome).toMatchObject(first)
        expect(await ids(client, shared.name, 'read_parquet')).toEqual({ rows: 4, ids: 4 })
        expect(await bench.write(await opened(), { rows: ROWS })).toMatchObject({ rows: 4, ...again })
      })

      it('by kill -9 of the server in the middle of an upload in parts: nothing is there, then all of it', async () => {
        await using own = await startPrivate(server)
        await using bucket = await freshBucket(own.endpoint)
        const direct = s3Client(own.endpoint)
        await using relay = await relayTo(own.endpoint.url)
        const options = { ...IN_PARTS, ...keysOf({ ...own.endpoint, url: relay.url }), bucket: bucket.name }
        const loader = await opened(options, LARGE)
        const first = failing(bench.write(loader, { rows: LARGE }))
        await vi.waitUntil(() => relay.asked.some(({ path }) => path.includes('partNumber=')), {
          interval: 1,
          timeout: 60_000,
        })
        await own.kill9()
        expect(await first).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
        await own.restart()
        expect(await keys(direct, bucket.name)).toEqual(['_adflow/T.csv.json'])
        expect(await bench.write(loader, { rows: LARGE })).toMatchObject({ rows: 170_000, repeated: false })
        expect(await ids(direct, bucket.name)).toEqual({ rows: 170_000, ids: 170_000 })
        direct.destroy()
      }, 120_000)

      it('by a server that stands still: the write ends, and succeeds when the server goes on', async () => {
        await using own = await startPrivate(server)
        await using bucket = await freshBucket(own.endpoint)
        const loader = await opened({ ...keysOf(own.endpoint), timeout: '300ms', bucket: bucket.name })
        own.stop()
        expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({ code: 'STORE_UNAVAILABLE' })
        own.cont()
        expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4 })
      }, 120_000)
    })

    describe('says what is wrong, once and clearly', () => {
      it('of a wrong secret', async () => {
        expect(await failing(opened({ secret_access_key: 'a wrong one' }))).toMatchObject({
          code: 'STORE_DENIED',
          exit: 77,
          hint: expect.stringContaining('secret_access_key'),
        })
      })

      it('of an unknown key', async () => {
        expect(await failing(opened({ access_key_id: 'nobody' }))).toMatchObject({ code: 'STORE_DENIED' })
      })

      it('of a busy server, which is tried again', async () => {
        const busy = '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
        await using relay = await relayTo(endpoint.url, ({ method }) =>
          method === 'PUT' ? { status: 503, body: busy } : undefined,
        )
        const loader = await opened({ endpoint: relay.url })
        expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
          code: 'STORE_UNAVAILABLE',
          retryable: true,
          message: expect.stringContaining('reduce your request rate'),
        })
        expect(await keys()).toEqual([])
      })

      it('of a server without conditional writes', async () => {
        const none = '<Error><Code>NotImplemented</Code><Message>A header implies what is not here</Message></Error>'
        await using relay = await relayTo(endpoint.url, ({ headers }) =>
          headers['if-none-match'] === '*' ? { status: 501, body: none } : undefined,
        )
        const loader = await opened({ endpoint: relay.url })
        expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
          code: 'STORE_MISMATCH',
          hint: expect.stringContaining('conditional writes'),
        })
      })

      it('of an object that is gone or was changed', async () => {
        const loader = await opened()
        const { outputs } = await bench.write(loader, { rows: ROWS })
        const Key = String(outputs[0]).slice(`s3://${shared.name}/`.length)
        await client.send(new PutObjectCommand({ Bucket: shared.name, Key, Body: 'short' }))
        expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
          code: 'STORE_MISMATCH',
          message: expect.stringContaining('has 5 bytes'),
        })
        const { found } = (await loader.audit?.({ engine: bench.session, job: '', columns: [] })) ?? {}
        expect([...(found?.values() ?? [])][0]?.faults).toEqual([expect.stringContaining('does not have the bytes')])
      })

      it('of a manifest that is none', async () => {
        const { token } = await bench.batch({ rows: ROWS })
        await client.send(
          new PutObjectCommand({ Bucket: shared.name, Key: `${prefix}/_adflow/${token}.parquet.json`, Body: '{}' }),
        )
        expect(await failing(bench.write(await opened(), { rows: ROWS }))).toMatchObject({ code: 'STORE_DAMAGED' })
      })

      it('of a server that is not there', async () => {
        expect(await failing(opened({ endpoint: 'http://127.0.0.1:1' }))).toMatchObject({
          code: 'STORE_UNAVAILABLE',
          retryable: true,
          hint: expect.stringContaining('endpoint'),
        })
      })

      it('of a server that takes connections and says nothing', async () => {
        const silent = createServer(() => undefined)
        await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
        const { port } = silent.address() as { port: number }
        expect(await failing(opened({ endpoint: `http://127.0.0.1:${port}`, timeout: '200ms' }))).toMatchObject({
          code: 'STORE_UNAVAILABLE',
        })
        silent.close()
      })

      it('of a full disk on the server, and takes the batch when there is room again', async () => {
        await using own = await startPrivate(server, { diskSize: '40m' })
        await using bucket = await freshBucket(own.endpoint)
        const direct = s3Client(own.endpoint)
        const fillers = Array.from({ length: 30 }, (_, index) => ({ Bucket: bucket.name, Key: `filler-${index}` }))
        for (const filler of fillers)
          await direct.send(new PutObjectCommand({ ...filler, Body: Buffer.alloc(1_000_000) }))
        const options = { ...keysOf(own.endpoint), bucket: bucket.name, format: 'csv' }
        const loader = await opened(options, LARGE)
        expect(await failing(bench.write(loader, { rows: LARGE }))).toMatchObject({
          code: 'STORE_UNAVAILABLE',
          retryable: true,
        })
        expect(await ids(direct, bucket.name).catch(() => undefined)).toBeDefined()
        for (const filler of fillers) await direct.send(new DeleteObjectCommand(filler))
        // MinIO keeps its distance from the end of so small a disk.
        if (server === 's3')
          expect(await bench.write(loader, { rows: LARGE })).toMatchObject({ rows: 170_000, repeated: false })
        direct.destroy()
      }, 120_000)
    })
  })

await serverSuite('the loader of S3, by users and certificates of versitygw', ['s3'], () => {
  let folder: string
  let bench: LoaderBench
  beforeEach(async () => {
    folder = newFolder()
    bench = await LoaderBench.open({ definition: s3 as LoaderDefinition, folder, options: [] })
  })
  afterEach(() => {
    bench.close()
    removeFolder(folder)
  })

  it('does with its least privilege what it does, and says what is missing with less', async () => {
    await using own = await startPrivate('s3', { users: { loader: 'loader-secret' } })
    await using bucket = await freshBucket(own.endpoint)
    const root = s3Client(own.endpoint)
    const allow = (bucketActions: readonly string[], objectActions: readonly string[]) =>
      root.send(
        new PutBucketPolicyCommand({
          Bucket: bucket.name,
          Policy: JSON.stringify({
            Version: '2012-10-17',
            Statement: [
              {
                Effect: 'Allow',
                Principal: { AWS: ['loader'] },
                Action: bucketActions,
                Resource: `arn:aws:s3:::${bucket.name}`,
              },
              {
                Effect: 'Allow',
                Principal: { AWS: ['loader'] },
                Action: objectActions,
                Resource: `arn:aws:s3:::${bucket.name}/*`,
              },
            ],
          }),
        }),
      )
    const options = {
      ...keysOf({ ...own.endpoint, accessKeyId: 'loader', secretAccessKey: 'loader-secret' }),
      bucket: bucket.name,
      prefix: 'events',
      ...IN_PARTS,
    }
    const opening = () => bench.open(bench.create(options), LARGE)
    expect(await failing(opening())).toMatchObject({ code: 'STORE_DENIED', hint: expect.stringContaining('grant') })
    await allow(['s3:ListBucket', 's3:ListBucketMultipartUploads'], ['s3:GetObject'])
    const reading = await opening()
    expect(await failing(bench.write(reading, { rows: LARGE }))).toMatchObject({ code: 'STORE_DENIED', exit: 77 })
    await allow(
      ['s3:ListBucket', 's3:ListBucketMultipartUploads'],
      ['s3:GetObject', 's3:PutObject', 's3:AbortMultipartUpload'],
    )
    expect(await bench.write(await opening(), { rows: LARGE })).toMatchObject({ rows: 170_000, repeated: false })
    expect(await bench.write(await opening(), { rows: LARGE })).toMatchObject({ rows: 170_000, repeated: true })
    root.destroy()
  }, 120_000)

  it('of an expired certificate, and of one that nobody knows; takes one of the authority that is named', async () => {
    const files = makeFolder('certificates')
    const expired = await makeCertificate(files, { notAfter: new Date(Date.now() - 1000) })
    const options = (url: string, ca?: string) => ({
      ...keysOf({ url, ...S3_KEYS }),
      bucket: 'secure',
      create: 'missing',
      format: 'parquet',
      ...(ca === undefined ? {} : { tls: { ca } }),
    })
    {
      await using own = await startPrivate('s3', { tls: expired })
      expect(
        await failing(bench.open(bench.create(options(own.endpoint.url, expired.authorityFile)), ROWS)),
      ).toMatchObject({
        code: 'STORE_DENIED',
        message: expect.stringContaining('expired'),
        hint: expect.stringContaining('certificate'),
      })
    }
    const good = await makeCertificate(files)
    await using own = await startPrivate('s3', { tls: good })
    expect(await failing(bench.open(bench.create(options(own.endpoint.url)), ROWS))).toMatchObject({
      code: 'STORE_DENIED',
    })
    const loader = await bench.open(bench.create(options(own.endpoint.url, good.authorityFile)), ROWS)
    expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
    files.remove()
  }, 120_000)

  it('of a server that is read-only', async () => {
    await using own = await startPrivate('s3', { readOnly: true })
    expect(
      await failing(
        bench.open(bench.create({ ...keysOf(own.endpoint), bucket: 'none', create: 'missing', format: 'csv' }), ROWS),
      ),
    ).toMatchObject({ code: 'STORE_DENIED' })
  }, 120_000)
})
