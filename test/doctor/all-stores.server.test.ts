/** Every store at once: a job that names all loaders, asked as a person asks. */
import { readdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import Doctor from '../../src/commands/doctor.ts'
import { EXIT } from '../../src/core/errors.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import type { DoctorFinding, DoctorReport } from '../../src/runtime/doctor.ts'
import { runCommand } from '../commands/run-command.ts'
import { adflow } from '../harness/cli.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import {
  clickhousePlace,
  elasticsearchPlace,
  kafkaPlace,
  postgresPlace,
  redisPlace,
  type StorePlace,
  s3Place,
  sftpPlace,
} from '../harness/store-places.ts'

type Options = Readonly<Record<string, unknown>>

const PASSWORD = 'pass-word-of-the-job'
const SERVERS = ['postgres', 'clickhouse', 'redis', 's3', 'sftp', 'kafka', 'opensearch'] as const
/** Their systems are this machine. */
const LOCAL = {
  duckdb: { path: 'warehouse.duckdb', table: 'events' },
  files: { path: 'out', format: 'parquet' },
} as const

await serverSuite('the doctor before every store', SERVERS, (servers) => {
  let folder: string
  let places: Readonly<Record<string, StorePlace>>
  /** Takes connections, and never says a word. */
  let silent: Server

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'adflow-all-stores-'))
    writeFileSync(join(folder, 'a.ndjson'), '{"id":1}\n')
    places = {
      postgres: await postgresPlace(servers.postgres),
      clickhouse: await clickhousePlace(servers.clickhouse),
      redis: await redisPlace(servers.redis),
      s3: await s3Place(servers.s3),
      sftp: await sftpPlace(servers.sftp),
      kafka: await kafkaPlace(servers.kafka),
      elasticsearch: await elasticsearchPlace(servers.opensearch),
    }
    silent = createServer((socket) => socket.on('error', () => undefined))
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  }, 120_000)
  afterAll(async () => {
    silent.close()
    await Promise.all(Object.values(places).map((place) => place.remove()))
    await rm(folder, { recursive: true })
  })

  const jobOf = (load: Readonly<Record<string, Options>>) => {
    const file = join(folder, 'job.yaml')
    const loaders = Object.fromEntries(Object.entries(load).map(([type, options]) => [type, { type, ...options }]))
    const extract = { ads: { type: 'files', path: 'a.ndjson' } }
    const contract = { columns: { id: { type: 'bigint', required: true } } }
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ version: 1, name: 'all', extract, contract, load: loaders }))
    return file
  }
  const doctor = async (load: Readonly<Record<string, Options>>) => {
    const argv = [jobOf(load), '--state-dir', join(folder, 'state'), '--timeout', '20s', '--json']
    const { exit, stdout } = await runCommand('doctor', Doctor, argv)
    return { exit, stdout, report: JSON.parse(stdout) as DoctorReport }
  }
  const elsewhere = (port: number) =>
    Object.fromEntries(Object.entries(places).map(([type, place]) => [type, place.at('127.0.0.1', port, PASSWORD)]))
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
    for (const type of Object.keys(places)) {
      const checks = checksOf(findings, type)
      expect(checks[0], type).toBe('reachable')
      expect(checks, type).toEqual(expect.arrayContaining(['tls', 'target', 'permission']))
    }
    expect(stdout).not.toContain(servers.postgres.url)
    expect({ stores: await traces(), folder: readdirSync(folder).filter((name) => name !== 'job.yaml') }).toEqual(
      before,
    )
  })

  it('says of each in one line that nobody is there', async () => {
    const { exit, report, stdout } = await doctor(elsewhere(1))
    expect(ofLoaders(report).map(briefly)).toEqual(Object.keys(places).map(unreachable))
    for (const { found, mend, place } of ofLoaders(report)) {
      expect(place).toContain('127.0.0.1:1')
      expect(found).not.toMatch(/\n/)
      expect(mend).not.toBe('')
    }
    expect(exit).toBe(EXIT.unavailable)
    expect(stdout).not.toContain(PASSWORD)
  })

  it('waits for those that are silent once, for all together, and then ends', async () => {
    const { port } = silent.address() as { port: number }
    const file = jobOf(elsewhere(port))
    const began = performance.now()
    const result = await adflow(['doctor', file, '--state-dir', join(folder, 'state'), '--timeout', '2s', '--json'])
    expect(performance.now() - began).toBeLessThan(12_000)
    expect(ofLoaders(result.json<DoctorReport>()).map(briefly)).toEqual(Object.keys(places).map(unreachable))
    expect(result.code).toBe(EXIT.unavailable)
    expect(result.stdout + result.stderr).not.toContain(PASSWORD)
  })
})

const unreachable = (type: string) => ({ type, check: 'reachable', status: 'failed', code: 'STORE_UNAVAILABLE' })
const briefly = ({ type, check, status, code }: DoctorFinding) => ({ type, check, status, code })
