/**
 * What each kind of store has of the pairs (id, micros), read by its own tools or by another client than adflow's, as SQL that gives
 * rows with these two columns. Files go to `folder`.
 */
import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { literal } from '../../src/engine/sql-text.ts'
import { download } from './downloaded.ts'
import { readTopic } from './kafka-reader.ts'
import { pages } from './opensearch.ts'
import type { S3Endpoint } from './servers/core/s3.ts'
import { s3Client } from './servers/s3-client.ts'
import type { SftpEndpoint } from './servers/sftp.ts'
import { downloadFolder, sftpClient } from './servers/sftp-client.ts'

export async function pairsOfPostgres(url: string, table: string, folder: string): Promise<string> {
  const { Client } = await import('pg')
  const { to } = await import('pg-copy-streams')
  const file = join(folder, 'postgres.csv')
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await pipeline(
      client.query(to(`COPY (SELECT id, micros FROM ${table}) TO STDOUT WITH (FORMAT csv)`)),
      createWriteStream(file),
    )
  } finally {
    await client.end()
  }
  return csvOf(file)
}

export async function pairsOfClickHouse(url: string, table: string, folder: string): Promise<string> {
  const file = join(folder, 'clickhouse.csv')
  const { username, password, pathname, origin } = new URL(url)
  const query = `SELECT id, micros FROM ${table} FORMAT CSV`
  const answer = await fetch(`${origin}/?database=${pathname.slice(1)}`, {
    method: 'POST',
    headers: { 'x-clickhouse-user': username, 'x-clickhouse-key': password },
    body: query,
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`ClickHouse: ${text}`)
  await writeFile(file, text)
  return csvOf(file)
}

/** Hashes whose keys begin with the prefix. */
export async function pairsOfRedis(url: string, prefix: string, folder: string): Promise<string> {
  const { Redis } = await import('ioredis')
  const file = join(folder, 'redis.csv')
  const client = new Redis(url)
  const lines: string[] = []
  try {
    for await (const keys of client.scanStream({ match: `${prefix}*`, count: 5000 })) {
      const asked = (keys as string[]).reduce((batch, key) => batch.hmget(key, 'id', 'micros'), client.pipeline())
      for (const [, pair] of (await asked.exec()) ?? []) lines.push((pair as string[]).join(','))
    }
  } finally {
    client.disconnect()
  }
  // A scan may give a key twice.
  await writeFile(file, `${[...new Set(lines)].join('\n')}\n`)
  return csvOf(file)
}

export async function pairsOfKafka(brokers: string, topic: string, folder: string): Promise<string> {
  const file = join(folder, 'kafka.ndjson')
  const records = await readTopic(brokers, topic)
  await writeFile(file, records.map(({ value }) => `${String(value)}\n`).join(''))
  return `SELECT id, micros FROM read_json(${literal(file)}, format = 'newline_delimited', columns = {id: 'BIGINT', micros: 'BIGINT'})`
}

export async function pairsOfOpenSearch(url: string, index: string, folder: string): Promise<string> {
  const file = join(folder, 'opensearch.csv')
  const out = createWriteStream(file)
  for await (const page of pages(url, index))
    for (const [, source = ''] of page.matchAll(/"_source":(\{[^}]*\})/g)) {
      const [, id] = /"id":(\d+)/.exec(source) ?? []
      const [, micros] = /"micros":(\d+)/.exec(source) ?? []
      out.write(`${id},${micros}\n`)
    }
  await new Promise((resolve) => out.end(resolve))
  return csvOf(file)
}

/** Parquet objects below a prefix. */
export async function pairsOfS3(endpoint: S3Endpoint, bucket: string, prefix: string, folder: string): Promise<string> {
  const to = join(folder, 's3')
  const client = s3Client(endpoint)
  await download(client, bucket, `${prefix}/`, to)
  client.destroy()
  return parquetOf(to)
}

/** Parquet files in a folder. */
export async function pairsOfSftp(endpoint: SftpEndpoint, path: string, folder: string): Promise<string> {
  const to = join(folder, 'sftp')
  const client = await sftpClient(endpoint)
  await downloadFolder(client, path, to)
  await client.end()
  return parquetOf(to)
}

export function parquetOf(folder: string): string {
  return `SELECT id, micros FROM read_parquet(${literal(`${folder}/**/*.parquet`)}, hive_partitioning = false)`
}

function csvOf(file: string): string {
  return `SELECT id, micros FROM read_csv(${literal(file)}, header = false, columns = {id: 'BIGINT', micros: 'BIGINT'})`
}
