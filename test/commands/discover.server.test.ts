/** What real systems offer, and jobs drafted from them by their addresses: by the CLI. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import Discover from '../../src/commands/discover.ts'
import Init from '../../src/commands/init.ts'
import Lint from '../../src/commands/lint.ts'
import type { DiscoveredSource, Offer } from '../../src/core/discovery.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { GrpcSource, PROTO } from '../harness/grpc-source.ts'
import { HttpSource, record } from '../harness/http-source.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import {
  freshBucket,
  freshClickHouseDatabase,
  freshDatabase,
  freshFolder,
  freshIndexes,
  freshTopic,
} from '../harness/servers/fresh.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { sftpClient } from '../harness/servers/sftp-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { runCommand } from './run-command.ts'

let folder: ReturnType<typeof temporaryFolder>
beforeAll(() => {
  folder = temporaryFolder('discover')
})
afterAll(() => folder.remove())

const discover = (...args: string[]) => runCommand('discover', Discover, args)
const init = (...args: string[]) => runCommand('init', Init, args)

async function discovered(...args: string[]): Promise<readonly Offer[]> {
  const result = await discover(...args, '--json')
  expect(result.exit, result.stdout + result.stderr).toBe(0)
  return (JSON.parse(result.stdout) as { sources: DiscoveredSource[] }).sources.flatMap(({ offers }) => offers)
}

/** Drafts a job, which lints clean; returns its text. `records`: a run of it loads so many. */
async function drafted(name: string, from: readonly string[], records?: number): Promise<string> {
  const dir = join(folder.path, name)
  const made = await init(dir, '--name', name, '--from', ...from)
  expect(made.exit, made.stdout + made.stderr).toBe(0)
  const file = join(dir, 'jobs', `${name}.yaml`)
  const lint = await runCommand('lint', Lint, [file, '--strict'])
  expect(lint.exit, lint.stdout + lint.stderr).toBe(0)
  if (records !== undefined) {
    const env = { ADFLOW_STATE_DIR: join(dir, 'state'), [`${name.toUpperCase()}_PASSWORD`]: 'adflow' }
    const run = await adflow(['run', file, '--json'], { env })
    expect(run.json<RunSummary>(), run.stdout).toMatchObject({ exit: 0, read: records, quarantined: 0 })
  }
  return readFileSync(file, 'utf8')
}

const ROWS = '{"id":1,"name":"ü"}\n{"id":2,"name":"b"}\n'

await serverSuite('discover', ['postgres', 'clickhouse'], ({ postgres, clickhouse }) => {
  it('lists the tables of PostgreSQL, and drafts a job from one of them, without its password', async () => {
    await using database = await freshDatabase(postgres)
    const { Client } = await import('pg')
    const client = new Client({ connectionString: database.url })
    await client.connect()
    await client.query(
      `CREATE TABLE "odd Name" (id bigint, cost numeric(30,10)); CREATE TABLE spend (id bigint primary key, cost numeric(30,10), at timestamptz);
       INSERT INTO spend SELECT 9007199254740993 + n, n + 0.0000000001, now() FROM generate_series(1, 50) n; ANALYZE spend`,
    )
    await client.end()
    const offers = await discovered(database.url)
    expect(offers).toMatchObject([
      { kind: 'table', name: 'public."odd Name"', options: { table: 'public."odd Name"' } },
      { kind: 'table', name: 'public.spend', records: 50, bytes: expect.any(Number), about: '3 columns' },
    ])
    const open = await init(join(folder.path, 'open'), '--from', database.url)
    expect(open.exit).toBe(2)
    expect(open.stderr).toMatch(/offers 2: public."odd Name", public.spend/)
    const text = await drafted('spend', [`${database.url}?table=spend`], 50)
    expect(text).toMatch(/id: .*bigint/)
    expect(text).toMatch(/cost: (?:double|decimal)/)
    expect(text).toContain('password: "${SPEND_PASSWORD:-set SPEND_PASSWORD}"')
    expect(text).not.toContain(':adflow@')
  })

  it('lists the tables of ClickHouse, and drafts a job from the only one', async () => {
    await using database = await freshClickHouseDatabase(clickhouse)
    const { createClient } = await import('@clickhouse/client')
    const client = createClient({ url: database.url })
    await client.command({
      query: 'CREATE TABLE clicks (id UInt64, cost Decimal(38, 18), name String) ENGINE = MergeTree ORDER BY id',
    })
    await client.command({
      query: "INSERT INTO clicks SELECT 18446744073709551615 - number, number + 0.5, 'ü' FROM numbers(40)",
    })
    await client.close()
    const address = database.url.replace(/^http:/, 'clickhouse:')
    expect(await discovered(address)).toMatchObject([
      { kind: 'table', name: 'clicks', records: 40, about: 'MergeTree, sorted by id', options: { table: 'clicks' } },
    ])
    const text = await drafted('clicks', [address], 40)
    expect(text).toMatch(/id: .*hugeint/)
    expect(text).toMatch(/cost: .*decimal\(38,18\)/)
  })
})

await serverSuite('discover, where files and logs are', ['s3', 'sftp', 'kafka'], ({ s3, sftp, kafka }) => {
  it('lists the objects of a bucket, and drafts a job from them', async () => {
    await using bucket = await freshBucket(s3)
    const { PutObjectCommand } = await import('@aws-sdk/client-s3')
    const client = s3Client(s3)
    for (const key of ['ads/a.ndjson', 'ads/b [1].ndjson'])
      await client.send(new PutObjectCommand({ Bucket: bucket.name, Key: key, Body: ROWS }))
    client.destroy()
    const { url, accessKeyId, secretAccessKey, region } = s3
    const keys = `access_key_id=${accessKeyId}&secret_access_key=${secretAccessKey}`
    const address = `s3://${bucket.name}/ads?endpoint=${url}&force_path_style=true&region=${region}&${keys}`
    const offers = await discovered(address)
    expect(offers).toMatchObject([
      { kind: 'object', name: 'a.ndjson', bytes: Buffer.byteLength(ROWS) },
      { kind: 'object', name: 'b [1].ndjson', options: { files: 'b \\[1\\].ndjson' } },
    ])
    const made = await init(join(folder.path, 'objects'), '--name', 'objects', '--from', address)
    expect(made.exit, made.stderr).toBe(0)
    expect(made.stdout).toContain('Set before a run: OBJECTS_SECRET_ACCESS_KEY')
    expect(readFileSync(join(folder.path, 'objects', 'jobs', 'objects.yaml'), 'utf8')).not.toContain(secretAccessKey)
  })

  it('lists the files of an SFTP server, and drafts a job from them', async () => {
    await using place = await freshFolder(sftp)
    const client = await sftpClient(sftp)
    await client.put(Buffer.from('id,name\n1,a\n2,b\n3,c\n'), `${place.path}/x.csv`)
    await client.end()
    const { username, host } = new URL(sftp.url)
    const address = `sftp://${username}@${host}${place.path}?private_key=${sftp.privateKey}&known_hosts=${sftp.knownHosts}`
    expect(await discovered(address)).toMatchObject([{ kind: 'file', name: 'x.csv', bytes: 20 }])
    expect(await drafted('files', [address])).toMatch(/id: .*bigint/)
  })

  it('lists the topics of Kafka, and drafts a job from one', async () => {
    await using topic = await freshTopic(kafka, { partitions: 2 })
    const messages = ROWS.trim()
      .split('\n')
      .map((value) => ({ value }))
    await new KafkaWriter(kafka.brokers).send(topic.name, messages)
    const offers = await discovered(`kafka://${kafka.brokers}`, '--match', topic.name)
    expect(offers).toMatchObject([{ kind: 'topic', name: topic.name, records: 2, about: '2 partitions' }])
    await drafted('topic', [`kafka://${kafka.brokers}/${topic.name}`], 2)
  })
})

await serverSuite(
  'discover, where metrics and searches are',
  ['prometheus', 'opensearch'],
  ({ prometheus, opensearch }) => {
    it('lists the indexes of OpenSearch, and drafts a job from one', async () => {
      await using indexes = await freshIndexes(opensearch)
      const body = [1, 2].map((id) => `{"create":{}}\n{"id":${id},"name":"ü"}\n`).join('')
      const headers = { 'content-type': 'application/x-ndjson' }
      const url = `${opensearch.url}/${indexes.name}_logs`
      expect((await fetch(`${url}/_bulk?refresh=true`, { method: 'POST', headers, body })).status).toBe(200)
      const address = opensearch.url.replace(/^http:/, 'opensearch:')
      const offers = await discovered(address, '--match', indexes.name)
      expect(offers).toMatchObject([
        { kind: 'index', name: `${indexes.name}_logs`, records: 2, bytes: expect.any(Number) },
      ])
      expect(await drafted('logs', [`${address}/${indexes.name}_logs`])).toMatch(/bigint, from: id /)
    })

    it('lists the metrics of Prometheus, and drafts a job from one', async () => {
      const address = `${prometheus.url.replace(/^http:/, 'prometheus:')}?allow_private=true`
      const offers = await discovered(address, '--match', 'prometheus_build_info')
      expect(offers).toMatchObject([
        {
          kind: 'metric',
          name: 'prometheus_build_info',
          options: { queries: { prometheus_build_info: 'prometheus_build_info' } },
        },
      ])
      const set = ['queries={ up: up }', 'lag=0s', 'step=1s'].flatMap((option) => ['--set', option])
      expect(await drafted('metrics', [address, ...set])).toMatch(/labels: .*instance/)
    })
  },
)

describe('discover, without a server of the harness', () => {
  it('lists the methods of a gRPC server, by reflection and by files, and drafts a job from one', async () => {
    const server = await new GrpcSource(['{"id":9007199254740993,"micros":0.5,"name":"a"}']).start()
    try {
      const methods = ['ads.v1.Events/List', 'ads.v1.Events/Watch', 'ads.v1.Events/Everything']
      const named = (offers: readonly Offer[]) => offers.map(({ name }) => name)
      expect(named(await discovered(`grpc://${server.address}`))).toEqual(methods)
      expect(named(await discovered('grpc', '--set', 'address=127.0.0.1:9', '--set', `proto=${PROTO}`))).toEqual(
        methods,
      )
      expect(await drafted('rows', [`grpc://${server.address}/ads.v1.Events/Watch`])).toMatch(/id: .*bigint/)
      const down = await discover('grpc://127.0.0.1:9', '--json')
      expect(down.exit).toBe(69)
      expect(JSON.parse(down.stdout)).toMatchObject({ sources: [{ error: { code: 'SOURCE_UNREADABLE' } }] })
    } finally {
      await server.end()
    }
  })

  it('finds the records of an HTTP API and its next page, and drafts a job that reads them all', async () => {
    const server = await new HttpSource().start()
    server.lists['l'] = Array.from({ length: 25 }, (_, id) => record(id))
    const allowed = ['--set', 'allow_private=true']
    try {
      const expected = {
        cursor: { type: 'cursor', path: 'meta.next', more: 'more' },
        next: { type: 'next', path: 'meta.next' },
        link: { type: 'link' },
      }
      for (const [paging, paginate] of Object.entries(expected)) {
        const [offer] = await discovered(`${server.origin}/${paging}/l`, ...allowed)
        const options = { records: 'data.items', paginate, again: 'all', key: ['id'] }
        expect(offer, paging).toMatchObject({ kind: 'list', name: 'data.items', records: 10, options })
      }
      const text = await drafted('api', [`${server.origin}/cursor/l`, ...allowed], 25)
      expect(text).toMatch(/amount: .*(?:decimal|double)/)
      expect(text).toMatch(/id: .*bigint/)
      const lost = await init(join(folder.path, 'lost'), '--from', `${server.origin}/lost`, ...allowed)
      expect(lost.exit).toBe(69)
      expect(lost.stderr).toMatch(/answers 404/)
      server.interfere = (_, response) => {
        response.setHeader('content-type', 'text/html').end('<html>')
        return true
      }
      const login = await discover(`${server.origin}/cursor/l`, ...allowed)
      expect(login.exit).toBe(65)
      expect(login.stdout).toMatch(/answers with an HTML page/)
      expect((await discover(`${server.origin}/cursor/l`)).stdout).toMatch(/not a public address/)
    } finally {
      await server.stop()
    }
  })
})
