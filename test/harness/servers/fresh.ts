/**
 * Places of a test's own on a shared server: tests run in parallel, and a server from the environment may hold other
 * people's data. Each is removed by `await using` or `remove()`.
 */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectsCommand,
  ListObjectVersionsCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { createClient } from '@clickhouse/client'
import { Client } from 'pg'
import SftpClient from 'ssh2-sftp-client'
import type { ClickHouseEndpoint } from './clickhouse.ts'
import type { S3Endpoint } from './core/s3.ts'
import type { PostgresEndpoint } from './postgres.ts'
import type { SftpEndpoint } from './sftp.ts'

export interface Fresh extends AsyncDisposable {
  /** Lower case letters, digits and underscores; starts with a letter. */
  readonly name: string
  remove(): Promise<void>
}

export interface FreshUrl extends Fresh {
  /** The server's, with the place in it. */
  readonly url: string
}

/** A name that nobody else uses. */
export function freshName(prefix = 'adflow'): string {
  return `${prefix}_${randomBytes(6).toString('hex')}`
}

export async function freshDatabase({ url }: PostgresEndpoint): Promise<FreshUrl> {
  const name = freshName()
  await onPostgres(url, `CREATE DATABASE ${name}`)
  const place = new URL(url)
  place.pathname = `/${name}`
  return { ...fresh(name, () => onPostgres(url, `DROP DATABASE ${name} WITH (FORCE)`)), url: place.href }
}

/** The URL names the database as its path, as ClickHouse's client takes it. */
export async function freshClickHouseDatabase({ url }: ClickHouseEndpoint): Promise<FreshUrl> {
  const name = freshName()
  await onClickHouse(url, `CREATE DATABASE ${name}`)
  const place = new URL(url)
  place.pathname = `/${name}`
  return { ...fresh(name, () => onClickHouse(url, `DROP DATABASE ${name} SYNC`)), url: place.href }
}

export async function freshBucket(endpoint: S3Endpoint): Promise<Fresh> {
  // A bucket's name takes no underscore.
  const name = freshName().replace('_', '-')
  const client = s3Client(endpoint)
  await client.send(new CreateBucketCommand({ Bucket: name }))
  return fresh(name, async () => {
    await empty(client, name)
    await client.send(new DeleteBucketCommand({ Bucket: name }))
    client.destroy()
  })
}

export interface FreshFolder extends Fresh {
  /** Absolute, on the server. */
  readonly path: string
}

export async function freshFolder(endpoint: SftpEndpoint): Promise<FreshFolder> {
  const name = freshName()
  const path = `${new URL(endpoint.url).pathname}/${name}`
  await onSftp(endpoint, (client) => client.mkdir(path, true))
  return { ...fresh(name, () => onSftp(endpoint, (client) => client.rmdir(path, true))), path }
}

/** A client as tests use it; the caller destroys it. */
export function s3Client({ url, accessKeyId, secretAccessKey, region }: S3Endpoint): S3Client {
  return new S3Client({ endpoint: url, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
}

/** Page by page, each deleted before the next is listed. */
async function empty(client: S3Client, bucket: string): Promise<void> {
  for (;;) {
    const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }))
    const objects = [...Versions, ...DeleteMarkers].map(({ Key, VersionId }) => ({ Key, VersionId }))
    if (objects.length === 0) return
    await client.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: objects, Quiet: true } }))
  }
}

function fresh(name: string, remove: () => Promise<void>): Fresh {
  return { name, remove, [Symbol.asyncDispose]: remove }
}

async function onPostgres(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

async function onClickHouse(url: string, query: string): Promise<void> {
  const client = createClient({ url })
  try {
    await client.command({ query })
  } finally {
    await client.close()
  }
}

async function onSftp(endpoint: SftpEndpoint, work: (client: SftpClient) => Promise<unknown>): Promise<void> {
  const url = new URL(endpoint.url)
  const client = new SftpClient()
  const address = { host: url.hostname, port: Number(url.port), username: url.username }
  await client.connect({ ...address, privateKey: await readFile(endpoint.privateKey) })
  try {
    await work(client)
  } finally {
    await client.end()
  }
}
