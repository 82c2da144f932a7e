/** What a PostgreSQL server says of itself before a run: asked in one transaction that may not write. */
import { TLSSocket } from 'node:tls'
import type { PoolClient } from 'pg'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { sizeText } from '../../core/job/units.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { Postgres, placeOf } from './connect.ts'
import { diagnoseTable, type TableQuestion } from './diagnose-table.ts'
import { explainPostgres } from './errors.ts'
import type { ConnectionOptions } from './options.ts'

/** The oldest that its makers still maintain. */
const OLDEST_MAJOR = 14

/** What is asked of one job's server beside what is asked of each. */
export interface ServerQuestion {
  /** It must take writes, and keep them. */
  readonly writes: boolean
  readonly connections: number
  readonly explain: typeof explainPostgres
  own(client: PoolClient, at: Findings): Promise<readonly Finding[]>
}

export function diagnosePostgres(options: ConnectionOptions, question: TableQuestion, env: DiagnoseEnv): Diagnosis {
  return diagnoseServer(options, env, {
    writes: true,
    connections: options.connections,
    explain: explainPostgres,
    own: (client, at) => diagnoseTable(client, question, at),
  })
}

/** What of a DiagnoseEnv is needed to ask a server. */
export type ServerEnv = Pick<DiagnoseEnv, 'baseDir' | 'answerMs' | 'signal' | 'now'>

export function diagnoseServer(
  options: Omit<ConnectionOptions, 'connections'>,
  env: ServerEnv,
  { writes, connections: wanted, explain, own }: ServerQuestion,
): Diagnosis {
  const { host, port, database } = placeOf(options)
  const place = `${host}:${port}/${database}`
  const limits = {
    connections: 1,
    connect_timeout: Math.min(options.connect_timeout, env.answerMs),
    statement_timeout: Math.min(options.statement_timeout, env.answerMs),
  }
  return diagnosisAt(place, async function* (at) {
    const postgres = new Postgres({ ...options, ...limits }, env.baseDir, explain)
    const ask = (work: (client: PoolClient) => Promise<readonly Finding[]>) =>
      postgres.with(`reach ${place}`, (client) => withoutWriting(client, work), env.signal)
    try {
      yield* await ask((client) => serverFindings(client, at, { host, nowMs: env.now(), writes }))
      yield* await ask((client) => own(client, at))
      yield* await ask(async (client) => [
        ...(writes ? [await durability(client, at)] : []),
        await connections(client, at, wanted),
        await clock(client, at, env),
        ...(writes ? [await disk(client, at)] : []),
      ])
    } finally {
      await postgres.close()
    }
  })
}

async function withoutWriting<T>(client: PoolClient, work: (client: PoolClient) => Promise<T>): Promise<T> {
  await client.query('BEGIN TRANSACTION READ ONLY')
  const result = await work(client)
  await client.query('ROLLBACK')
  return result
}

async function serverFindings(
  client: PoolClient,
  at: Findings,
  { host, nowMs, writes }: { readonly host: string; readonly nowMs: number; readonly writes: boolean },
): Promise<readonly Finding[]> {
  const row = await one(
    client,
    `SELECT current_user AS "user", current_setting('server_version') AS version, current_setting('server_version_num')::int AS number, pg_is_in_recovery() AS replica, (SELECT setting FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only, (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls`,
  )
  const version = `PostgreSQL ${row['version']}`
  const old = Math.floor(Number(row['number']) / 10_000) < OLDEST_MAJOR
  return [
    at.ok('reachable', `answers to the user ${row['user']}`),
    old
      ? at.warning('version', `${version}, which is no longer maintained`, `upgrade to ${OLDEST_MAJOR} or newer`)
      : at.ok('version', version),
    tls(at, row['tls'], { host, validToMs: certificateEnd(client), nowMs }),
    ...(writes ? [writable(at, row)] : []),
  ]
}

function tls(
  at: Findings,
  protocol: unknown,
  { host, validToMs, nowMs }: { readonly host: string; readonly validToMs: number | undefined; readonly nowMs: number },
): Finding {
  if (typeof protocol === 'string') return at.tls(protocol, validToMs, nowMs)
  if (isThisMachine(host)) return at.ok('tls', 'not encrypted, on this machine')
  return at.warning(
    'tls',
    'not encrypted: data and password can be read on the way',
    'set `tls: { mode: verify }`, and `ca` where the authority is your own',
  )
}

/** Of the certificate that the server has shown, in milliseconds since the epoch. */
function certificateEnd(client: PoolClient): number | undefined {
  const { stream } = (client as unknown as { readonly connection: { readonly stream: unknown } }).connection
  return stream instanceof TLSSocket ? Date.parse(stream.getPeerCertificate().valid_to) : undefined
}

function writable(at: Findings, { replica, read_only }: Readonly<Record<string, unknown>>): Finding {
  if (replica === true)
    return at.failed(
      'writable',
      'STORE_UNAVAILABLE',
      'this is a read-only replica, or a server in recovery',
      'name the primary in `url`',
    )
  if (read_only === 'on')
    return at.failed(
      'writable',
      'STORE_UNAVAILABLE',
      'transactions are read-only by default (default_transaction_read_only)',
      'set it off for the server, the database or the user of the job',
    )
  return at.ok('writable', 'takes writes')
}

async function durability(client: PoolClient, at: Findings): Promise<Finding> {
  const row = await one(
    client,
    `SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit`,
  )
  const off = Object.entries(row).flatMap(([name, value]) => (value === 'off' ? [name] : []))
  if (off.length === 0) return at.ok('durability', 'what is committed survives a crash')
  return at.warning(
    'durability',
    `${off.join(' and ')} off: batches that were committed may be gone after a crash of the server`,
    `set ${off.join(' and ')} on`,
  )
}

async function connections(client: PoolClient, at: Findings, wanted: number): Promise<Finding> {
  const row = await one(
    client,
    `SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int - coalesce(current_setting('reserved_connections', true)::int, 0) - count(datid) AS server,
       CASE WHEN u.rolconnlimit >= 0 THEN u.rolconnlimit - count(*) FILTER (WHERE a.usesysid = u.oid) END AS user,
       CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit - count(*) FILTER (WHERE a.datid = d.oid) END AS database
     FROM pg_stat_activity a, pg_roles u, pg_database d WHERE u.rolname = current_user AND d.datname = current_database() GROUP BY u.oid, u.rolconnlimit, d.oid, d.datconnlimit`,
  )
  const rooms = ['server', 'user', 'database'].flatMap(
    (whose) => (row[whose] === null ? [] : [{ whose, free: Number(row[whose]) + 1 }]), // one is ours
  )
  const least = rooms.reduce((a, b) => (b.free < a.free ? b : a), { whose: 'server', free: Number.POSITIVE_INFINITY })
  const free = Math.max(0, least.free)
  if (free >= wanted) return at.ok('connections', `${free} free, ${wanted} wanted`)
  return at.warning(
    'connections',
    `${free} free, ${wanted} wanted: the limit of the ${least.whose} is reached`,
    `lower \`connections\`, or raise ${least.whose === 'server' ? 'max_connections' : `the CONNECTION LIMIT of the ${least.whose}`}`,
  )
}

async function clock(client: PoolClient, at: Findings, env: ServerEnv): Promise<Finding> {
  const askedMs = env.now()
  const { ms } = await one(client, 'SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms')
  return at.clock({ systemMs: Number(ms), askedMs, answeredMs: env.now() })
}

async function disk(client: PoolClient, at: Findings): Promise<Finding> {
  const { size } = await one(client, 'SELECT pg_database_size(current_database()) AS size')
  return at.unknown(
    'disk',
    `PostgreSQL does not tell how much is free; the database has ${sizeText(Number(size))}`,
    'watch the disk of the server there',
  )
}

async function one(client: PoolClient, sql: string): Promise<Readonly<Record<string, unknown>>> {
  const { rows } = await client.query<Record<string, unknown>>(sql)
  return rows[0] ?? {}
}
