/**
 * Places of a test's own on a shared server: tests run in parallel, and a server from the environment may hold other
 * people's data. Each is removed by `await using` or `remove()`. Clients are imported by whoever needs them: a test of one
 * store does not wait for the libraries of six others.
 */
import { randomBytes } from 'node:crypto'
import { createTopic } from '../kafka-topic.ts'
import type { ClickHouseEndpoint } from './clickhouse.ts'
import type { S3Endpoint } from './core/s3.ts'
import type { KafkaEndpoint } from './kafka.ts'
import type { OpenSearchEndpoint } from './opensearch.ts'
import type { PostgresEndpoint } from './postgres.ts'
import type { SftpEndpoint } from './sftp.ts'

export interface Fresh extends AsyncDisposable {
  /** Lower case letters, digits and underscores (in a bucket's name a hyphen); starts with a letter. */
  readonly name: string
  remove(): Promise<void>
}

export interface FreshUrl extends Fresh {
  /** The server's, with the place in it. */
  readonly url: string
}

export interface FreshFolder extends Fresh {
  /** Absolute, on the server. */
  readonly path: string
}

/** A name that nobody else uses. */
export function freshName(prefix = 'adflow'): string {
  return `${prefix}_${randomBytes(6).toString('hex')}`
}

export async function freshDatabase({ url }: PostgresEndpoint): Promise<FreshUrl> {
  const name = freshName()
  await onPostgres(url, `CREATE DATABASE ${name}`)
  return { ...fresh(name, () => onPostgres(url, `DROP DATABASE ${name} WITH (FORCE)`)), url: withPath(url, name) }
}

/** The URL names the database as its path, as ClickHouse's client takes it. */
export async function freshClickHouseDatabase({ url }: ClickHouseEndpoint): Promise<FreshUrl> {
  const name = freshName()
  await onClickHouse(url, `CREATE DATABASE ${name}`)
  return { ...fresh(name, () => onClickHouse(url, `DROP DATABASE ${name} SYNC`)), url: withPath(url, name) }
}

/** A prefix of keys: the name with a colon. `url` is that of a single Redis, or of all nodes of a cluster. */
export async function freshKeys({ url }: { readonly url: string }): Promise<Fresh & { readonly prefix: string }> {
  const name = freshName()
  const remove = async () => {
    await Promise.all(url.split(',').map((node) => deleteKeys(node, `${name}:*`)))
  }
  return { ...fresh(name, remove), prefix: `${name}:` }
}

export async function freshBucket(endpoint: S3Endpoint): Promise<Fresh> {
  const { CreateBucketCommand, DeleteBucketCommand } = await import('@aws-sdk/client-s3')
  const { s3Client } = await import('./s3-client.ts')
  // A bucket's name takes no underscore.
  const name = freshName().replace('_', '-')
  const client = s3Client(endpoint)
  await client.send(new CreateBucketCommand({ Bucket: name }))
  return fresh(name, async () => {
    await emptied(client, name)
    await client.send(new DeleteBucketCommand({ Bucket: name }))
    client.destroy()
  })
}

export async function emptyBucket(endpoint: S3Endpoint, bucket: string): Promise<void> {
  const { s3Client } = await import('./s3-client.ts')
  const client = s3Client(endpoint)
  await emptied(client, bucket)
  client.destroy()
}

export async function freshFolder(endpoint: SftpEndpoint): Promise<FreshFolder> {
  const name = freshName()
  const path = `${new URL(endpoint.url).pathname}/${name}`
  await onSftp(endpoint, (client) => client.mkdir(path, true))
  return { ...fresh(name, () => onSftp(endpoint, (client) => client.rmdir(path, true))), path }
}

/** A topic, with a leader for each partition. */
export async function freshTopic({ brokers }: KafkaEndpoint, { partitions = 1 } = {}): Promise<Fresh> {
  const name = freshName()
  await onKafka(brokers, (admin) => createTopic(admin, { topic: name, numPartitions: partitions }))
  return fresh(name, () => onKafka(brokers, (admin) => admin.deleteTopics({ topics: [name] })))
}

/** A prefix of indexes; whatever begins with it is deleted: data streams, hidden ones, and templates that have it in their name. */
export async function freshIndexes({ url }: OpenSearchEndpoint): Promise<Fresh> {
  const name = freshName()
  return fresh(name, async () => {
    for (const path of [`_data_stream/${name}*`, `${name}*?expand_wildcards=all`, `_index_template/*${name}*`]) {
      const { ok, status } = await fetch(`${url}/${path}`, { method: 'DELETE' })
      if (!ok && status !== 404) throw new Error(`OpenSearch: DELETE ${path} gave ${status}`)
    }
  })
}

function fresh(name: string, remove: () => Promise<void>): Fresh {
  return { name, remove, [Symbol.asyncDispose]: remove }
}

function withPath(url: string, name: string): string {
  const place = new URL(url)
  place.pathname = `/${name}`
  return place.href
}

async function onPostgres(url: string, sql: string): Promise<void> {
  const { Client } = await import('pg')
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

async function onClickHouse(url: string, query: string): Promise<void> {
  const { createClient } = await import('@clickhouse/client')
  const client = createClient({ url })
  try {
    await client.command({ query })
  } finally {
    await client.close()
  }
}

async function deleteKeys(url: string, pattern: string): Promise<void> {
  const { Redis } = await import('ioredis')
  const redis = new Redis(url)
  try {
    // A replica refuses, and follows its master.
    if ((await redis.role())[0] !== 'master') return
    for await (const keys of redis.scanStream({ match: pattern, count: 1000 }))
      for (const key of keys as string[]) await redis.del(key)
  } finally {
    redis.disconnect()
  }
}

/** Page by page, each deleted before the next is listed. */
async function emptied(client: import('@aws-sdk/client-s3').S3Client, bucket: string): Promise<void> {
  const { DeleteObjectsCommand, ListObjectVersionsCommand } = await import('@aws-sdk/client-s3')
  for (;;) {
    const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }))
    const objects = [...Versions, ...DeleteMarkers].map(({ Key, VersionId }) => ({ Key, VersionId }))
    if (objects.length === 0) return
    await client.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: objects, Quiet: true } }))
  }
}

async function onSftp(
  endpoint: SftpEndpoint,
  work: (client: import('ssh2-sftp-client')) => Promise<unknown>,
): Promise<void> {
  const { sftpClient } = await import('./sftp-client.ts')
  const client = await sftpClient(endpoint)
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

async function onKafka(brokers: string, work: (admin: import('kafkajs').Admin) => Promise<unknown>): Promise<void> {
  const { Kafka, logLevel } = await import('kafkajs')
  const admin = new Kafka({ brokers: brokers.split(','), clientId: 'adflow-test', logLevel: logLevel.ERROR }).admin()
  await admin.connect()
  try {
    await work(admin)
  } finally {
    await admin.disconnect()
  }
}
