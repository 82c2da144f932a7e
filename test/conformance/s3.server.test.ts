import { basename, join } from 'node:path'
import { S3Client } from '@aws-sdk/client-s3'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll } from 'vitest'
import { literal } from '../../src/engine/sql-text.ts'
import s3 from '../../src/loaders/s3.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { download } from '../harness/downloaded.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { S3_SERVERS, type S3Endpoint } from '../harness/servers/core/s3.ts'
import { type Fresh, freshBucket } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { rowsOfFiles, writtenFiles } from '../harness/written-files.ts'
import { type LoaderFixture, loaderConformance } from './suites/loader.ts'
import { type FaultyStore, type Held, storeFaults } from './suites/store-faults.ts'

type Options = Readonly<Record<string, unknown>>

let downloads = 0

function keys({ url, accessKeyId, secretAccessKey }: S3Endpoint, bucket: string): Options {
  return { bucket, endpoint: url, access_key_id: accessKeyId, secret_access_key: secretAccessKey }
}

/** Each test has a prefix of its own in the bucket of the file. */
function bucketOf(endpoint: S3Endpoint, bucket: () => string, own: Options): LoaderFixture<unknown> {
  const options = { ...keys(endpoint, 'set-by-place'), ...own }
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

/** A bucket on a server of its own. */
async function faulty(kind: 's3' | 'minio'): Promise<FaultyStore> {
  const server = await startPrivate(kind)
  const { endpoint } = server
  const bucket = await freshBucket(endpoint)
  const engine = await DuckDBInstance.create()
  const connection = await engine.connect()
  const loads = (place: string) => ({
    plain: { type: 's3', format: 'parquet', prefix: `${place}/plain`, ...keys(endpoint, bucket.name) },
    parted: {
      type: 's3',
      format: 'csv',
      prefix: `${place}/parted`,
      partition: { part: 'n % 2' },
      ...keys(endpoint, bucket.name),
    },
  })
  const held = async (prefix: string, reader: string): Promise<Held> => {
    const folder = temporaryFolder('held')
    const client = s3Client(endpoint)
    try {
      const found = await download(client, bucket.name, `${prefix}/`, folder.path)
      const files = found.filter((key) => !key.startsWith('_adflow/')).map((key) => literal(join(folder.path, key)))
      if (files.length === 0) return { rows: 0, ids: 0, micros: '0' }
      const all = await connection.runAndReadAll(
        `SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, sum(micros)::VARCHAR AS micros FROM ${reader}([${files.join(', ')}], hive_partitioning = false)`,
      )
      return all.getRowObjects()[0] as unknown as Held
    } finally {
      client.destroy()
      folder.remove()
    }
  }
  return {
    loads,
    held: async (place) => ({
      plain: await held(`${place}/plain`, 'read_parquet'),
      parted: await held(`${place}/parted`, 'read_csv'),
    }),
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: async () => {
      connection.closeSync()
      engine.closeSync()
      await server.end()
    },
  }
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
    storeFaults(server, () => faulty(server))
  })
