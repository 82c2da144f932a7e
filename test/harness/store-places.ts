/** A place of a test's own in each kind of store: options as in a job file, and what is there by somebody else's eyes. */
import { Client } from 'pg'
import type { EndpointOf } from './servers/catalog.ts'
import {
  freshBucket,
  freshClickHouseDatabase,
  freshDatabase,
  freshFolder,
  freshIndexes,
  freshKeys,
  freshTopic,
} from './servers/fresh.ts'
import { s3Client } from './servers/s3-client.ts'

type Options = Readonly<Record<string, unknown>>

export interface StorePlace {
  readonly options: Options
  /** The same kind of store at another address, with this password. */
  at(host: string, port: number, password: string): Options
  /** Everything that is there. */
  traces(): Promise<unknown>
  remove(): Promise<void>
}

export async function postgresPlace(server: EndpointOf<'postgres'>): Promise<StorePlace> {
  const database = await freshDatabase(server)
  const url = new URL(database.url)
  const { password } = url
  url.password = ''
  const options = { url: url.href, password, table: 'events' }
  return {
    options,
    at: (host, port, other) => ({ ...options, url: `postgres://adflow@${host}:${port}/ads`, password: other }),
    async traces() {
      const client = new Client({ connectionString: database.url })
      await client.connect()
      try {
        const sql = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        return (await client.query<Record<string, unknown>>(sql)).rows
      } finally {
        await client.end()
      }
    },
    remove: () => database.remove(),
  }
}

export async function clickhousePlace(server: EndpointOf<'clickhouse'>): Promise<StorePlace> {
  const database = await freshClickHouseDatabase(server)
  return {
    options: { url: database.url, table: 'events' },
    at: (host, port, password) => ({ url: `http://adflow@${host}:${port}/ads`, password, table: 'events' }),
    async traces() {
      const { createClient } = await import('@clickhouse/client')
      const client = createClient({ url: database.url })
      const query = 'SELECT name, total_rows FROM system.tables WHERE database = currentDatabase()'
      try {
        return await (await client.query({ query, format: 'JSONEachRow' })).json()
      } finally {
        await client.close()
      }
    },
    remove: () => database.remove(),
  }
}

export async function s3Place(server: EndpointOf<'s3'>): Promise<StorePlace> {
  const bucket = await freshBucket(server)
  const { url: endpoint, accessKeyId, secretAccessKey } = server
  const options = { bucket: bucket.name, format: 'parquet' }
  const keys = (id: string, secret: string) => ({ access_key_id: id, secret_access_key: secret })
  return {
    options: { ...options, endpoint, ...keys(accessKeyId, secretAccessKey) },
    at: (host, port, secret) => ({ ...options, endpoint: `http://${host}:${port}`, ...keys('adflow', secret) }),
    async traces() {
      const { ListObjectVersionsCommand, ListMultipartUploadsCommand } = await import('@aws-sdk/client-s3')
      const client = s3Client(server)
      const { Versions, DeleteMarkers } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket.name }))
      const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket.name }))
      client.destroy()
      return { Versions, DeleteMarkers, Uploads }
    },
    remove: () => bucket.remove(),
  }
}

export async function kafkaPlace(server: EndpointOf<'kafka'>): Promise<StorePlace> {
  const { brokers } = server
  const fresh = await freshTopic(server)
  // Not there yet: a question about it must not make it.
  const topic = `${fresh.name}_events`
  return {
    options: { brokers, topic },
    at: (host, port, password) => ({ brokers: `${host}:${port}`, topic, sasl: { username: 'adflow', password } }),
    async traces() {
      const { Kafka, logLevel } = await import('kafkajs')
      const kafka = new Kafka({ brokers: brokers.split(','), clientId: 'adflow-test', logLevel: logLevel.ERROR })
      const admin = kafka.admin()
      await admin.connect()
      try {
        return (await admin.listTopics()).filter((name) => name.startsWith(fresh.name)).sort()
      } finally {
        await admin.disconnect()
      }
    },
    remove: () => fresh.remove(),
  }
}

export async function elasticsearchPlace(server: EndpointOf<'opensearch'>): Promise<StorePlace> {
  const fresh = await freshIndexes(server)
  const options = { index: `${fresh.name}-events`, batches: `${fresh.name}-batches` }
  return {
    options: { url: server.url, ...options },
    at: (host, port, password) => ({ url: `http://${host}:${port}`, user: 'adflow', password, ...options }),
    async traces() {
      const found = await fetch(`${server.url}/${fresh.name}*?expand_wildcards=all`)
      return found.json()
    },
    remove: () => fresh.remove(),
  }
}

export async function redisPlace(server: EndpointOf<'redis'>): Promise<StorePlace> {
  const keys = await freshKeys(server)
  const url = new URL(server.url)
  const { password } = url
  url.password = ''
  const options = { prefix: keys.prefix, key: 'id' }
  return {
    options: { url: url.href, password, ...options },
    at: (host, port, other) => ({ url: `redis://${host}:${port}/0`, password: other, ...options }),
    async traces() {
      const { Redis } = await import('ioredis')
      const redis = new Redis(server.url)
      try {
        return await redis.keys(`${keys.prefix}*`)
      } finally {
        redis.disconnect()
      }
    },
    remove: () => keys.remove(),
  }
}

export async function sftpPlace(server: EndpointOf<'sftp'>): Promise<StorePlace> {
  const folder = await freshFolder(server)
  const { host, username } = new URL(server.url)
  const options = { path: folder.path, known_hosts: server.knownHosts, format: 'csv' }
  return {
    options: { url: `sftp://${username}@${host}`, private_key: server.privateKey, ...options },
    at: (other, port, password) => ({ url: `sftp://adflow@${other}:${port}`, password, ...options }),
    async traces() {
      const { sftpClient } = await import('./servers/sftp-client.ts')
      const client = await sftpClient(server)
      try {
        return await client.list(folder.path)
      } finally {
        await client.end()
      }
    },
    remove: () => folder.remove(),
  }
}
