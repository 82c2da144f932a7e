/** PostgreSQL of Debian, ready for logical replication; as a replica, with TLS, or on a disk that fills up if a test wants. */
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Certificate } from './core/certificates.ts'
import { defineServer } from './core/kind.ts'
import { command, findProgram, programFromDebian } from './core/machine.ts'
import { accepts } from './core/process.ts'

export interface PostgresEndpoint extends Record<string, string> {
  /** `postgres://user:password@host:port/database` of a superuser; passwords are asked for (SCRAM). */
  readonly url: string
}

export interface PostgresOptions {
  /** Lines of postgresql.conf, such as `max_connections: '10'`. */
  readonly settings?: Readonly<Record<string, string>>
  /** Serves TLS with this certificate, beside plain connections. */
  readonly tls?: Certificate
  /** A read-only replica that follows the server at this URL. */
  readonly replicaOf?: string
}

const PASSWORD = 'adflow'
const SERVER_USER = 'postgres'

export default defineServer<PostgresEndpoint, PostgresOptions>({
  name: 'postgres',
  summary: 'PostgreSQL of Debian, wal_level=logical',
  variables: { url: 'ADFLOW_TEST_POSTGRES_URL' },

  async install() {
    await programs()
  },

  async start(context, options) {
    const bin = await programs()
    const asUser = process.getuid?.() === 0 ? SERVER_USER : undefined
    const port = await context.port()
    const data = owned(join(context.disk(), 'data'), asUser)
    // Not on the disk that fills up: there PostgreSQL refuses the statement, here it would restart itself.
    const wal = owned(join(context.folder.make('log-of-changes'), 'wal'), asUser)
    const run = (program: string, args: readonly string[]) =>
      asUser === undefined
        ? command(join(bin, program), args, { cwd: '/' })
        : command('runuser', ['-u', asUser, '--', join(bin, program), ...args], { cwd: '/' })
    if (options.replicaOf === undefined) {
      const password = context.folder.write('password', PASSWORD)
      await run('initdb', [
        '-D',
        data,
        '-X',
        wal,
        '-U',
        'postgres',
        '-A',
        'scram-sha-256',
        `--pwfile=${password}`,
        ...INITDB,
      ])
    } else await run('pg_basebackup', ['-D', data, '-d', options.replicaOf, '-X', 'stream', '-R', '-c', 'fast'])
    await context.run({
      command: join(bin, 'postgres'),
      args: ['-D', data, ...settings({ port: String(port), ...SETTINGS, ...tls(options.tls), ...options.settings })],
      ...(asUser === undefined ? {} : { user: asUser }),
      log: join(context.folder.path, 'log'),
      // The port opens before recovery is over; pg_isready knows.
      ready: async () => (await accepts(port)) && (await isReady(bin, port)),
      stopSignal: 'SIGINT',
      // At once, but unlike SIGKILL it gives the shared memory back.
      endSignal: 'SIGQUIT',
    })
    return { url: `postgres://postgres:${PASSWORD}@127.0.0.1:${port}/postgres` }
  },
})

const INITDB = ['-E', 'UTF8', '--locale=C.UTF-8', '--no-sync', '--no-instructions', '--wal-segsize=4']

/** fsync stays on: tests kill this server in the middle of a commit. */
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  wal_level: 'logical',
  max_wal_senders: '20',
  max_replication_slots: '20',
  max_connections: '200',
  max_prepared_transactions: '10',
  shared_buffers: '64MB',
}

function settings(values: Readonly<Record<string, string>>): string[] {
  return Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

function tls(certificate: Certificate | undefined): Record<string, string> {
  if (certificate === undefined) return {}
  // PostgreSQL takes a key from no one but its own user or root.
  if (process.getuid?.() === 0) execFileSync('chown', [SERVER_USER, certificate.keyFile])
  return { ssl: 'on', ssl_cert_file: certificate.certificateFile, ssl_key_file: certificate.keyFile }
}

function owned(path: string, user: string | undefined): string {
  execFileSync('install', ['-d', '-m', '0700', ...(user === undefined ? [] : ['-o', user]), path])
  return path
}

async function isReady(bin: string, port: number): Promise<boolean> {
  try {
    await command(join(bin, 'pg_isready'), ['--quiet', '-h', '127.0.0.1', '-p', String(port)])
    return true
  } catch {
    return false // it starts up, or recovers
  }
}

/** The folder of initdb, postgres and the rest; the newest where several versions stand. */
async function programs(): Promise<string> {
  const initdb = await programFromDebian('initdb', ['postgresql'], () => findProgram('initdb', debianFolders()))
  return join(initdb, '..')
}

function debianFolders(): string[] {
  const root = '/usr/lib/postgresql'
  try {
    return readdirSync(root)
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => join(root, version, 'bin'))
  } catch {
    return [] // not Debian's, or not there yet
  }
}
