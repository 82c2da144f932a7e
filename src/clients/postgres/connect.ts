/** One pool per component. Connections are made when they are needed, and given back. */
import { isIP } from 'node:net'
import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { Client, ClientConfig, Pool, PoolClient } from 'pg'
import { AdflowError } from '../../core/errors.ts'
import { registerSecret } from '../../core/job/secrets.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { tlsMaterial } from '../../core/tls.ts'
import { explainPostgres } from './errors.ts'
import type { ConnectionOptions } from './options.ts'

export interface PostgresPlace {
  readonly host: string
  readonly port: string
  readonly database: string
}

/** @throws AdflowError JOB_INVALID where the URL does not parse */
export function placeOf({ url }: Pick<ConnectionOptions, 'url'>): PostgresPlace {
  const { hostname, port, pathname } = parsed(url)
  return {
    host: hostname,
    port: port === '' ? '5432' : port,
    database: decodeURIComponent(pathname.slice(1)) || 'postgres',
  }
}

/** `idleMs`: the server ends a session that does nothing for so long in the middle of a transaction, and lets others have what it has locked. */
export type PoolOptions = ConnectionOptions & { readonly idleMs?: number }

export class Postgres {
  readonly #options: PoolOptions
  readonly #baseDir: string
  readonly #explain: typeof explainPostgres
  #pool: Promise<Pool> | undefined

  /** `explain`: in whose words errors are told. Default: those of a store. */
  constructor(options: PoolOptions, baseDir: string, explain = explainPostgres) {
    this.#options = options
    this.#baseDir = baseDir
    this.#explain = explain
    if (options.password !== undefined) registerSecret(options.password)
    const { password } = parsed(options.url)
    if (password !== '') registerSecret(decodeURIComponent(password))
  }

  /** `work` with a connection of its own. One that was aborted, or that broke, is closed. */
  async with<T>(doing: string, work: (client: PoolClient) => Promise<T>, signal?: AbortSignal): Promise<T> {
    let client: PoolClient | undefined
    let broken: Error | undefined
    // Ends what the server is doing: a statement that nobody waits for would hold its locks.
    const abort = () => release(new Error('aborted'))
    // Given back once, also where the signal came while the connection was still being made: close() waits for all of them.
    let released = false
    const release = (error?: Error) => {
      if (!released) client?.release(error)
      released = true
    }
    try {
      signal?.throwIfAborted()
      client = await (await this.#open()).connect()
      // A connection that is cut while it waits has no one else to tell.
      client.on('error', remember)
      signal?.addEventListener('abort', abort, { once: true })
      signal?.throwIfAborted()
      return await work(client)
    } catch (error) {
      broken = error instanceof Error ? error : new Error(String(error))
      throw this.#explain(error, doing)
    } finally {
      signal?.removeEventListener('abort', abort)
      if (broken === undefined) client?.removeListener('error', remember)
      release(broken)
    }
  }

  /** `work` in one transaction. Rejected: nothing of it is there, or, where the connection broke at the commit, unknown. */
  transaction<T>(doing: string, work: (client: PoolClient) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.with(
      doing,
      async (client) => {
        await client.query('BEGIN')
        const result = await work(client)
        await client.query('COMMIT')
        return result
      },
      signal,
    )
  }

  /** A connection beside the pool, which is not open yet. Whoever asks for it ends it. */
  async apart(more: { readonly replication?: 'database'; readonly options: string }): Promise<Client> {
    const { default: pg } = await import('pg')
    return new pg.Client({ ...this.#config(), ...more })
  }

  async close(): Promise<void> {
    const ending = this.#pool
    this.#pool = undefined
    const pool = await ending?.catch(() => undefined) // it never opened
    await pool?.end()
  }

  #open(): Promise<Pool> {
    this.#pool ??= this.#connect()
    return this.#pool
  }

  async #connect(): Promise<Pool> {
    const { default: pg } = await import('pg')
    const { connections, idleMs, statement_timeout } = this.#options
    const standing = idleMs === undefined ? {} : { idle_in_transaction_session_timeout: idleMs }
    const pool = new pg.Pool({ ...this.#config(), ...standing, max: connections, statement_timeout })
    // Idle connections that the server closes are replaced by the pool.
    pool.on('error', remember)
    return pool
  }

  #config(): ClientConfig {
    const { connect_timeout, password, url } = this.#options
    return {
      connectionString: password === undefined ? url : withPassword(url, password),
      ssl: this.#tls() ?? false,
      application_name: 'adflow',
      connectionTimeoutMillis: connect_timeout,
      keepAlive: true,
    }
  }

  #tls(): TlsOptions | undefined {
    const { tls } = this.#options
    const { host } = placeOf(this.#options)
    if ((tls.mode ?? (isThisMachine(host) ? 'off' : 'verify')) === 'off') return undefined
    // Both are what the certificate must be made out to; only a name may be told to the server.
    const name = isIP(host) === 0 ? { servername: host } : { host }
    return { ...tlsMaterial(tls, this.#baseDir), ...name, rejectUnauthorized: true }
  }
}

/** The error comes again from whatever uses the connection next; without a listener it would end the process. */
function remember(): void {}

/** pg lets what stands in the URL win. */
function withPassword(url: string, password: string): string {
  const own = parsed(url)
  own.password = encodeURIComponent(password)
  return own.href
}

function parsed(url: string): URL {
  try {
    return new URL(url)
  } catch (error) {
    throw new AdflowError('JOB_INVALID', 'the URL of the PostgreSQL server does not parse', {
      cause: error,
      hint: 'write `postgres://user@host:5432/database`, and percent-encode what is special in it',
    })
  }
}
