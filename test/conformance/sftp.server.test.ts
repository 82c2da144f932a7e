import { basename, join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll } from 'vitest'
import { literal } from '../../src/engine/sql-text.ts'
import sftp from '../../src/loaders/sftp.ts'
import { temporaryFolder } from '../harness/cli.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { startPrivate } from '../harness/servers/private.ts'
import type { SftpEndpoint } from '../harness/servers/sftp.ts'
import { downloadFolder, sftpClient } from '../harness/servers/sftp-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { rowsOfFiles, writtenFiles } from '../harness/written-files.ts'
import { type LoaderFixture, loaderConformance } from './suites/loader.ts'
import { type FaultyStore, type Held, storeFaults } from './suites/store-faults.ts'

type Options = Readonly<Record<string, unknown>>
type Method = (...args: unknown[]) => unknown

/** Requests of the protocol that may change something: each may be the last. */
const REQUESTS = ['open', 'write', 'mkdir', 'rename', 'unlink', 'ext_openssh_rename']

let downloads = 0
/** Of all connections of this process. */
let requests: Record<string, Method>

function login({ knownHosts, privateKey, url }: SftpEndpoint): Options {
  return { url: url.replace(new URL(url).pathname, ''), private_key: privateKey, known_hosts: knownHosts }
}

function folderOf(endpoint: SftpEndpoint, own: Options): LoaderFixture<unknown> {
  const base = new URL(endpoint.url).pathname
  const options = { ...login(endpoint), path: base, ...own }
  return {
    definition: sftp as LoaderFixture<unknown>['definition'],
    type: 'sftp',
    options,
    other: { ...options, name: 'other-' },
    stepsOf: requestsAsSteps,
    place: (folder) => ({ path: `${base}/${basename(folder)}` }),
    rows: async (target, folder, columns) => {
      downloads += 1
      const to = join(folder, 'spill', `downloaded-${downloads}`)
      const client = await sftpClient(endpoint)
      const files = await downloadFolder(client, String(target['path']), to)
      await client.end()
      return rowsOfFiles(
        writtenFiles(files, target).map((file) => join(to, file)),
        target,
        columns,
      )
    },
  }
}

function requestsAsSteps(dying: DyingProcess): () => void {
  const originals = REQUESTS.map((name) => [name, requests[name] as Method] as const)
  for (const [name, original] of originals)
    requests[name] = function (this: unknown, ...args) {
      if (name !== 'open' || args[1] !== 'r') dying.step()
      return Reflect.apply(original, this, args)
    }
  return () => Object.assign(requests, Object.fromEntries(originals))
}

/** A folder on a server of its own. */
async function faulty(): Promise<FaultyStore> {
  const server = await startPrivate('sftp')
  const { endpoint } = server
  const base = new URL(endpoint.url).pathname
  const engine = await DuckDBInstance.create()
  const connection = await engine.connect()
  const held = async (path: string, reader: string): Promise<Held> => {
    const folder = temporaryFolder('held')
    const client = await sftpClient(endpoint)
    try {
      const found = (await client.exists(path)) === 'd' ? await downloadFolder(client, path, folder.path) : []
      const files = found.filter((file) => !file.startsWith('_adflow/')).map((file) => literal(join(folder.path, file)))
      if (files.length === 0) return { rows: 0, ids: 0, micros: '0' }
      const all = await connection.runAndReadAll(
        `SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, sum(micros)::VARCHAR AS micros FROM ${reader}([${files.join(', ')}], hive_partitioning = false)`,
      )
      return all.getRowObjects()[0] as unknown as Held
    } finally {
      await client.end()
      folder.remove()
    }
  }
  return {
    loads: (place) => ({
      plain: { type: 'sftp', format: 'parquet', path: `${base}/${place}/plain`, ...login(endpoint) },
      parted: {
        type: 'sftp',
        format: 'csv',
        path: `${base}/${place}/parted`,
        partition: { part: 'n % 2' },
        ...login(endpoint),
      },
    }),
    held: async (place) => ({
      plain: await held(`${base}/${place}/plain`, 'read_parquet'),
      parted: await held(`${base}/${place}/parted`, 'read_csv'),
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

await serverSuite('the loader of SFTP', ['sftp'], ({ sftp: endpoint }) => {
  let client: Awaited<ReturnType<typeof sftpClient>>
  beforeAll(async () => {
    client = await sftpClient(endpoint)
    requests = Object.getPrototypeOf((client as unknown as { readonly sftp: object }).sftp)
  })
  afterAll(() => client.end())

  loaderConformance('sftp parquet', folderOf(endpoint, { format: 'parquet' }))
  loaderConformance(
    'sftp csv, partitioned and compressed',
    folderOf(endpoint, { format: 'csv', compression: 'gzip', partition: { part: 'id % 2' } }),
  )
  storeFaults('sftp', faulty)
})
