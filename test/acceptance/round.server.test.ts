/**
 * One round over all kinds of sources at once, from real servers, while one of them is a black hole and one answers garbage: the rest is
 * loaded, two gaps are booked; the servers mended, the gaps are repaid.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { createClient } from '@clickhouse/client'
import pg from 'pg'
import { expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { HttpSource } from '../harness/http-source.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import {
  freshBucket,
  freshClickHouseDatabase,
  freshDatabase,
  freshFolder,
  freshIndexes,
  freshName,
} from '../harness/servers/fresh.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { sftpClient } from '../harness/servers/sftp-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
/** Of each source. */
const ROWS = LONG ? 100_000 : 2000
const FIRST_ID = 9_007_199_254_740_993n
/** Of the black hole. */
const SILENCE = '3s'

await serverSuite(
  'a round over every kind of source',
  ['postgres', 'clickhouse', 's3', 'sftp', 'kafka', 'opensearch', 'toxiproxy'],
  ({ postgres, clickhouse, s3, sftp, kafka, opensearch, toxiproxy }) => {
    it(`loads ${ROWS} records of each that answers, and repays the gaps of the two that do not`, async () => {
      const folder = temporaryFolder('every-source')
      const job = new SmallJob(folder.path)
      await using database = await freshDatabase(postgres)
      await using tables = await freshClickHouseDatabase(clickhouse)
      await using bucket = await freshBucket(s3)
      await using upload = await freshFolder(sftp)
      await using index = await freshIndexes(opensearch)
      const topic = freshName('round')
      const http = await new HttpSource().start()
      http.pageRecords = LONG ? 5000 : 500
      try {
        const sources: Record<string, object> = {}
        let offset = 0
        const add = (name: string, options: object) => {
          sources[name] = options
          offset += ROWS
        }
        const rows = () => Array.from({ length: ROWS }, (_, row) => rowOf(offset + row))

        mkdirSync(join(folder.path, 'data'))
        writeFileSync(join(folder.path, 'data', 'rows.ndjson'), `${rows().join('\n')}\n`)
        add('disk', { type: 'files', path: 'data/*.ndjson', settle: '0s' })

        http.lists['rows'] = rows()
        const paged = { records: 'data.items', paginate: { type: 'cursor', path: 'meta.next' }, again: 'added' }
        add('api', { type: 'http', url: `${http.origin}/cursor/rows`, ...paged, allow_private: true })

        http.lists['more'] = rows()
        await using proxy = await proxyFor(toxiproxy, http.origin)
        const heal = await proxy.add({ type: 'timeout', timeoutMs: 0 })
        const hole = { type: 'http', url: `${new URL(proxy.url).origin}/cursor/more`, ...paged, allow_private: true }
        add('black_hole', { ...hole, give_up_after: SILENCE, priority: 90 })

        http.lists['noise'] = rows()
        let garbage = true
        http.interfere = ({ path }, response) => {
          if (!garbage || !path.endsWith('/noise')) return false
          response.setHeader('content-type', 'text/html').end('<html><body>Service temporarily improved</body></html>')
          return true
        }
        add('garbage', { type: 'http', url: `${http.origin}/cursor/noise`, ...paged, allow_private: true })

        await fillPostgres(database.url, rows())
        add('postgres', { type: 'postgres', url: database.url, table: 'rows', cursor: ['id'] })

        await fillClickHouse(tables.url, rows())
        add('clickhouse', { type: 'clickhouse', url: tables.url, table: 'rows', cursor: ['id'] })

        const objects = s3Client(s3)
        const body = `${rows().join('\n')}\n`
        await objects.send(new PutObjectCommand({ Bucket: bucket.name, Key: 'rows/a.ndjson', Body: body }))
        objects.destroy()
        const keys = { endpoint: s3.url, access_key_id: s3.accessKeyId, secret_access_key: s3.secretAccessKey }
        add('s3', { type: 's3', bucket: bucket.name, prefix: 'rows', files: '*.ndjson', ...keys })

        const files = await sftpClient(sftp)
        await files.put(Buffer.from(`${rows().join('\n')}\n`), `${upload.path}/rows.ndjson`)
        await files.end()
        const login = new URL(sftp.url)
        login.pathname = ''
        const key = { private_key: sftp.privateKey, known_hosts: sftp.knownHosts }
        const set = { path: upload.path, files: '*.ndjson', unterminated: 'read' }
        add('sftp', { type: 'sftp', url: login.href, ...key, ...set })

        const writer = new KafkaWriter(kafka.brokers)
        await writer.create(topic, { partitions: 2 })
        const messages = rows().map((value, row) => ({ value, partition: row % 2 }))
        await writer.send(topic, messages, { batch: 1000 })
        add('kafka', { type: 'kafka', brokers: kafka.brokers, topics: topic })

        await fillOpenSearch(opensearch.url, `${index.name}-rows`, rows())
        const search = { index: `${index.name}-rows`, incremental: { field: 'id' }, size: LONG ? 5000 : 1000 }
        add('opensearch', { type: 'elasticsearch', url: opensearch.url, ...search })

        job.put('job.yaml', jobOf(sources))
        const held = async () => {
          const [row] = await job.warehouse(
            'SELECT count(*)::INTEGER AS n, count(DISTINCT id)::INTEGER AS ids, sum(micros)::VARCHAR AS micros FROM w.rows',
          )
          return row
        }
        const gaps = async () =>
          (await job.command(['gaps', job.file, '--json'])).json<{ gaps: { source: string }[] }>().gaps
        const count = Object.keys(sources).length

        const run = await job.summary()
        expect(run, JSON.stringify(run.gaps)).toMatchObject({ unaccounted: 0, quarantined: 0 })
        expect(run.gaps.map(({ source }) => source).sort()).toEqual(['black_hole', 'garbage'])
        expect(run.gaps.find(({ source }) => source === 'black_hole')?.code).toBe('SOURCE_TIMEOUT')
        for (const name of Object.keys(sources))
          expect(run.sources[name], name).toMatchObject(
            ['black_hole', 'garbage'].includes(name) ? { state: 'gap', records: 0 } : { state: 'done', records: ROWS },
          )
        expect(await held()).toMatchObject({ n: (count - 2) * ROWS, ids: (count - 2) * ROWS })
        expect((await gaps()).map(({ source }) => source).sort()).toEqual(['black_hole', 'garbage'])
        if (LONG) console.log(`${count} sources, ${(count - 2) * ROWS} records in ${run.seconds} s`, timesOf(run))

        garbage = false
        const second = await job.summary()
        expect(second.gaps.map(({ source }) => source)).toEqual(['black_hole'])
        expect(second.read).toBe(ROWS)

        await heal()
        const collected = await job.command(['gaps', job.file, '--collect', '--json'])
        expect(collected.json()).toMatchObject({
          run: { exit: 0, read: ROWS, sources: { black_hole: { state: 'done' } } },
        })
        expect(await gaps()).toEqual([])
        const all = count * ROWS
        expect(await held()).toEqual({ n: all, ids: all, micros: sumOf(all) })
        expect(await job.summary()).toMatchObject({ exit: 0, read: 0, gaps: [] })
      } finally {
        await http.stop()
        folder.remove()
      }
    })
  },
)

function timesOf({ sources }: RunSummary): Record<string, string> {
  return Object.fromEntries(Object.entries(sources).map(([id, { seconds }]) => [id, `${seconds.toFixed(1)} s`]))
}

/** A decimal of 18 digits behind the point, which no double holds. */
function microsOf(index: number): bigint {
  return BigInt(index) * 10n ** 18n + 123_456_789_012_345_678n + BigInt(index)
}

function decimal(micros: bigint): string {
  const digits = micros.toString().padStart(19, '0')
  return `${digits.slice(0, -18)}.${digits.slice(-18)}`
}

function rowOf(index: number): string {
  return `{"id":${FIRST_ID + BigInt(index)},"micros":"${decimal(microsOf(index))}","name":"name ü ${index}"}`
}

function sumOf(count: number): string {
  let sum = 0n
  for (let index = 0; index < count; index += 1) sum += microsOf(index)
  return decimal(sum)
}

async function fillPostgres(url: string, rows: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('CREATE TABLE rows (id bigint PRIMARY KEY, micros numeric(38,18), name text)')
  await client.query(
    'INSERT INTO rows SELECT r.id, r.micros, r.name FROM json_to_recordset($1::json) AS r(id bigint, micros numeric(38,18), name text)',
    [`[${rows.join(',')}]`],
  )
  await client.end()
}

async function fillClickHouse(url: string, rows: readonly string[]): Promise<void> {
  const client = createClient({ url })
  await client.command({
    query: 'CREATE TABLE rows (id UInt64, micros Decimal(38, 18), name String) ENGINE = MergeTree ORDER BY id',
  })
  await client.exec({
    query: `INSERT INTO rows FORMAT JSONEachRow\n${rows.join('\n')}`,
    clickhouse_settings: { wait_end_of_query: 1, async_insert: 0 },
  })
  await client.close()
}

async function fillOpenSearch(url: string, index: string, rows: readonly string[]): Promise<void> {
  const made = await fetch(`${url}/${index}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      settings: { number_of_shards: 1, number_of_replicas: 0 },
      mappings: { properties: { id: { type: 'long' }, micros: { type: 'keyword' }, name: { type: 'keyword' } } },
    }),
  })
  if (!made.ok) throw new Error(`the index was refused: ${await made.text()}`)
  for (let from = 0; from < rows.length; from += 5000) {
    const lines = rows.slice(from, from + 5000).map((row) => `{"create":{}}\n${row}\n`)
    const answer = await fetch(`${url}/${index}/_bulk?refresh=true`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: lines.join(''),
    })
    if (!answer.ok || ((await answer.json()) as { errors: boolean }).errors) throw new Error('the rows were refused')
  }
}

function jobOf(sources: Readonly<Record<string, object>>): string {
  return `version: 1
name: rows
extract: ${JSON.stringify(sources)}
contract:
  columns: { id: { type: bigint, required: true }, micros: "decimal(38,18)", name: varchar }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
`
}
