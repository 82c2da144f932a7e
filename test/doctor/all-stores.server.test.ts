/** Every store at once: a job that names all loaders, asked as a person asks. */
import { readdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import Doctor from '../../src/commands/doctor.ts'
import { EXIT } from '../../src/core/errors.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import type { DoctorFinding, DoctorReport } from '../../src/runtime/doctor.ts'
import { runCommand } from '../commands/run-command.ts'
import type { ServerName } from '../harness/servers/catalog.ts'
import type { S3Endpoint } from '../harness/servers/core/s3.ts'
import { freshBucket, freshDatabase } from '../harness/servers/fresh.ts'
import type { PostgresEndpoint } from '../harness/servers/postgres.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'

type Options = Readonly<Record<string, unknown>>

/** A place of the test's own in a store. */
interface Place {
  readonly options: Options
  /** The same store at another address, where nobody or nothing that answers is. */
  at(host: string, port: number): Options
  /** What is there, by somebody else's eyes. */
  traces(): Promise<unknown>
  remove(): Promise<void>
}

const PASSWORD = 'pass-word-of-the-job'

async function postgresPlace(server: PostgresEndpoint): Promise<Place> {
  const database = await freshDatabase(server)
  const url = new URL(database.url)
  const { password } = url
  url.password = ''
  const options = { url: url.href, password, table: 'events' }
  return {
    options,
    at: (host, port) => ({ ...options, url: `postgres://adflow@${host}:${port}/ads`, password: PASSWORD }),
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

async function s3Place(server: S3Endpoint): Promise<Place> {
  const bucket = await freshBucket(server)
  const { url: endpoint, accessKeyId, secretAccessKey } = server
  const options = { bucket: bucket.name, format: 'parquet', endpoint, ...keys(accessKeyId, secretAccessKey) }
  return {
    options,
    at: (host, port) => ({ ...options, endpoint: `http://${host}:${port}`, ...keys('adflow', PASSWORD) }),
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

function keys(id: string, secret: string): Options {
  return { access_key_id: id, secret_access_key: secret }
}

const SERVERS = ['postgres', 's3'] as const satisfies readonly ServerName[]
/** Their systems are this machine. */
const LOCAL = {
  duckdb: { path: 'warehouse.duckdb', table: 'events' },
  files: { path: 'out', format: 'parquet' },
} as const

await serverSuite('the doctor before every store', SERVERS, ({ postgres, s3 }) => {
  let folder: string
  let places: Readonly<Record<string, Place>>
  /** Takes connections, and never says a word. */
  let silent: Server

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'adflow-all-stores-'))
    writeFileSync(join(folder, 'a.ndjson'), '{"id":1}\n')
    places = { postgres: await postgresPlace(postgres), s3: await s3Place(s3) }
    silent = createServer((socket) => socket.on('error', () => undefined))
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  }, 120_000)
  afterAll(async () => {
    silent.close()
    await Promise.all(Object.values(places).map((place) => place.remove()))
    await rm(folder, { recursive: true })
  })

  const doctor = async (load: Readonly<Record<string, Options>>, timeout = '20s') => {
    const file = join(folder, 'job.yaml')
    const loaders = Object.entries(load).map(([type, options]) => [type, { type, ...options }])
    const extract = { ads: { type: 'files', path: 'a.ndjson' } }
    const contract = { columns: { id: { type: 'bigint', required: true } } }
    // JSON is YAML.
    writeFileSync(
      file,
      JSON.stringify({ version: 1, name: 'all', extract, contract, load: Object.fromEntries(loaders) }),
    )
    const before = performance.now()
    const argv = [file, '--state-dir', join(folder, 'state'), '--timeout', timeout, '--json']
    const { exit, stdout } = await runCommand('doctor', Doctor, argv)
    return { exit, stdout, report: JSON.parse(stdout) as DoctorReport, ms: performance.now() - before }
  }
  const elsewhere = (port: number) =>
    Object.fromEntries(Object.entries(places).map(([type, place]) => [type, place.at('127.0.0.1', port)]))
  const ofLoaders = ({ findings }: DoctorReport) => findings.filter(({ kind }) => kind === 'loader')
  const checksOf = (findings: readonly DoctorFinding[], type: string) =>
    findings.filter((finding) => finding.type === type).map(({ check }) => check)

  it('knows every loader that there is', async () => {
    const registry = await loadRegistry()
    expect([...Object.keys(places), ...Object.keys(LOCAL)].sort()).toEqual(registry.types('loader'))
    for (const type of registry.types('loader'))
      expect((await registry.get('loader', type)).diagnose, type).toBeInstanceOf(Function)
  })

  it('finds all of them well, and leaves no trace in any', async () => {
    const traces = () => Promise.all(Object.values(places).map((place) => place.traces()))
    const before = { stores: await traces(), folder: readdirSync(folder) }
    const options = Object.fromEntries(Object.entries(places).map(([type, place]) => [type, place.options]))
    const { report, stdout } = await doctor({ ...options, ...LOCAL })
    const findings = ofLoaders(report)
    expect(findings.filter(({ status }) => status === 'failed')).toEqual([])
    for (const type of Object.keys(places))
      expect(checksOf(findings, type), type).toEqual(
        expect.arrayContaining(['reachable', 'tls', 'target', 'permission', 'clock']),
      )
    expect(stdout).not.toContain(postgres.url)
    expect({ stores: await traces(), folder: readdirSync(folder).filter((name) => name !== 'job.yaml') }).toEqual(
      before,
    )
  })

  it('says of each in one line that nobody is there', async () => {
    const { exit, report, stdout } = await doctor(elsewhere(1))
    expect(ofLoaders(report).map(({ type, check, status, code }) => ({ type, check, status, code }))).toEqual(
      Object.keys(places).map((type) => ({ type, check: 'reachable', status: 'failed', code: 'STORE_UNAVAILABLE' })),
    )
    for (const { found, mend, place } of ofLoaders(report)) {
      expect(place).toContain('127.0.0.1:1')
      expect(found).not.toMatch(/\n/)
      expect(mend).not.toBe('')
    }
    expect(exit).toBe(EXIT.unavailable)
    expect(stdout).not.toContain(PASSWORD)
  })

  it('waits for those that are silent once, for all together', async () => {
    const { port } = silent.address() as { port: number }
    const { report, ms } = await doctor(elsewhere(port), '2s')
    expect(ms).toBeLessThan(5000)
    expect(ofLoaders(report).map(({ type, check, status, code }) => ({ type, check, status, code }))).toEqual(
      Object.keys(places).map((type) => ({ type, check: 'reachable', status: 'failed', code: 'STORE_UNAVAILABLE' })),
    )
  })
})
