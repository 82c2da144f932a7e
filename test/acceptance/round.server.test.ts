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
import { avroType } from '../harness/avro-values.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { GrpcSource, PROTO } from '../harness/grpc-source.ts'
import { HttpSource } from '../harness/http-source.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { GatewayProcess, pushLoad } from '../harness/push-gateway.ts'
import { AVRO, avroOf, BEGIN_SECONDS, lagOf, metricsOf, plainOf, rowOf, sumOf } from '../harness/round-rows.ts'
import {
  freshBucket,
  freshClickHouseDatabase,
  freshDatabase,
  freshFolder,
  freshIndexes,
  freshName,
} from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { sftpClient } from '../harness/servers/sftp-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
/** Of the test, however busy the machine is. */
const PATIENCE_MS = LONG ? 1_200_000 : 240_000
/** Of each source. */
const ROWS = LONG ? 100_000 : 2000
/** In one request. */
const PUSHED = 500
/** Of the black hole. */
const SILENCE = '3s'

await serverSuite(
  'a round over every kind of source',
  ['postgres', 'clickhouse', 's3', 'sftp', 'kafka', 'opensearch', 'prometheus', 'toxiproxy'],
  ({ postgres, clickhouse, s3, sftp, kafka, opensearch, toxiproxy }) => {
    it(
      `loads ${ROWS} records of each that answers, and repays the gaps of the two that do not`,
      async () => {
        const folder = temporaryFolder('every-source')
        const job = new SmallJob(folder.path)
        await using database = await freshDatabase(postgres)
        await using tables = await freshClickHouseDatabase(clickhouse)
        await using bucket = await freshBucket(s3)
        await using upload = await freshFolder(sftp)
        await using index = await freshIndexes(opensearch)
        const topic = freshName('round')
        // A new slot waits for every transaction of its cluster; samples of the past are there when the server starts.
        const changed = startPrivate('postgres')
        const http = await new HttpSource().start()
        const ends: (() => Promise<unknown>)[] = [() => http.stop(), async () => (await changed).end()]
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
            response
              .setHeader('content-type', 'text/html')
              .end('<html><body>Service temporarily improved</body></html>')
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

          const avro = avroType(AVRO)
          await writer.create(`${topic}-avro`)
          const values = rows().map((row) => ({ value: avro.toBuffer(avroOf(row)), partition: 0 }))
          await writer.send(`${topic}-avro`, values, { batch: 1000 })
          const own = { format: 'avro', avro: { schema: AVRO } }
          add('kafka_avro', { type: 'kafka', brokers: kafka.brokers, topics: `${topic}-avro`, ...own })

          const metrics = await startPrivate('prometheus', { metrics: metricsOf(rows()) })
          ends.push(() => metrics.end())
          const points = { step: '10m', start: new Date(BEGIN_SECONDS * 1000).toISOString(), lag: lagOf(ROWS) }
          const told = { url: metrics.endpoint.url, queries: { rows: 'rows' }, timeout: '60s', allow_private: true }
          add('prometheus', { type: 'prometheus', ...told, ...points, give_up_after: '60s' })

          const calls = await new GrpcSource(rows().map(plainOf)).start()
          ends.push(() => calls.end())
          const watch = {
            method: 'ads.v1.Events/Watch',
            request: { after_id: '{position}' },
            position: { field: 'id' },
          }
          add('grpc', { type: 'grpc', address: calls.address, proto: PROTO, ...watch })

          const { url: changing } = (await changed).endpoint
          await fillPostgres(changing, rows(), [
            'CREATE PUBLICATION round FOR TABLE rows',
            "SELECT pg_create_logical_replication_slot('round', 'pgoutput')",
          ])
          const slot = { slot: 'round', create: 'never' }
          add('postgres_cdc', { type: 'postgres_cdc', url: changing, tables: ['rows'], ...slot })

          const pushed = rows()
          add('push', { type: 'push' })

          job.put('job.yaml', jobOf(sources))
          const gateway = await GatewayProcess.start(['serve-push', job.file], {
            ADFLOW_STATE_DIR: join(folder.path, 'state'),
          })
          ends.push(() => gateway.end('SIGKILL'))
          const pieces = ROWS / PUSHED
          const load = { clients: 4, eventsPerRequest: PUSHED, eventsPerSecond: undefined }
          const over = (_: number, requests: number) => requests === pieces
          const url = `${gateway.url}/push/rows/push`
          const report = await pushLoad({ ...load, over, url, event: (id) => pushed[id] ?? '' })
          expect(report.acknowledged).toBe(ROWS)
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
              ['black_hole', 'garbage'].includes(name)
                ? { state: 'gap', records: 0 }
                : { state: 'done', records: ROWS },
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
          for (const end of ends) await end()
          folder.remove()
        }
      },
      PATIENCE_MS,
    )
  },
)

function timesOf({ sources }: RunSummary): Record<string, string> {
  return Object.fromEntries(Object.entries(sources).map(([id, { seconds }]) => [id, `${seconds.toFixed(1)} s`]))
}

/** `before`: done to the table while it is empty. */
async function fillPostgres(url: string, rows: readonly string[], before: readonly string[] = []): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('CREATE TABLE rows (id bigint PRIMARY KEY, micros numeric(38,18), name text)')
  for (const statement of before) await client.query(statement)
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
  columns:
    ${['id: bigint', 'micros: decimal(38,18)', 'name: varchar'].map(columnsOf).join('\n    ')}
transform:
  - derive:
      id: coalesce(own_id, label_id, after_id)
      micros: coalesce(own_micros, label_micros, after_micros)
      name: coalesce(own_name, label_name, after_name)
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
`
}

/** Where the sources have a column: itself, among the labels of a sample, in the image of a change. */
function columnsOf(column: string): string {
  const [name = '', type = ''] = column.split(': ')
  const from = { own: name, label: `labels.${name}`, after: `after.${name}` }
  return Object.entries(from)
    .map(([where, path]) => `${where}_${name}: { type: "${type}", from: ${path} }`)
    .join('\n    ')
}
