/** One client per component. Each statement is one request; none is ever sent twice by itself. */
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client'
import { AdflowError } from '../../core/errors.ts'
import { registerSecret } from '../../core/job/secrets.ts'
import { tlsMaterial } from '../../core/tls.ts'
import { filePieces } from '../../records/file-pieces.ts'
import { explainClickHouse } from './errors.ts'
import type { ConnectionOptions } from './options.ts'

export interface ClickHousePlace {
  /** `host:port`. */
  readonly server: string
  readonly host: string
  readonly database: string
}

/** name → value; `{name:Type}` in a statement stands for it. */
export type Parameters = Readonly<Record<string, string | number | readonly string[]>>

/** How much longer the client waits than the server works: a client that gives up first would not hear what came of it. */
const PATIENCE_MS = 30_000
/** Below the shortest that servers keep an idle connection: one that they close while it is used looks like a crash. */
const IDLE_MS = 2000

/** @throws AdflowError JOB_INVALID where the URL does not parse */
export function placeOf({ url }: Pick<ConnectionOptions, 'url'>): ClickHousePlace {
  const { hostname, port, pathname, protocol } = parsed(url)
  return {
    server: `${hostname}:${port === '' ? (protocol === 'https:' ? '443' : '80') : port}`,
    host: hostname,
    database: decodeURIComponent(pathname.slice(1)) || 'default',
  }
}

/** What differs between those who write and those who read. */
export interface Role {
  /** Of each statement; `seconds`: how long the server may work on it. */
  settings(seconds: number): ClickHouseSettings
  explain(error: unknown, doing: string): AdflowError
}

const WRITER: Role = {
  settings: (seconds) => ({
    // An answer that begins before the end could say OK and be followed by an error.
    wait_end_of_query: 1,
    max_execution_time: seconds,
    output_format_json_quote_64bit_integers: 1,
  }),
  explain: explainClickHouse,
}

const PIECE_BYTES = 1 << 18

/** One piece is in the socket until it asks for the next, which waits in the stream, and one is read meanwhile; the fourth is to spare. */
function bodyOf(file: string): Readable {
  const pieces = filePieces(file, { bytes: PIECE_BYTES, buffers: 4 })
  return Readable.from(pieces, { objectMode: false, highWaterMark: 1 })
}

/** The body of an answer, as it comes. */
export interface OpenAnswer {
  readonly body: Readable
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, unknown>>
}

/** For whoever cannot wait as long as a batch may. */
export interface Limits {
  readonly answerMs: number
  readonly signal: AbortSignal
}

export class ClickHouse {
  readonly #options: ConnectionOptions
  readonly #baseDir: string
  readonly #limits: Limits | undefined
  readonly #role: Role
  #client: Promise<ClickHouseClient> | undefined

  constructor(options: ConnectionOptions, baseDir: string, limits?: Limits, role: Role = WRITER) {
    const { answerMs = Number.POSITIVE_INFINITY } = limits ?? {}
    this.#options = {
      ...options,
      connect_timeout: Math.min(options.connect_timeout, answerMs),
      statement_timeout: Math.min(options.statement_timeout, answerMs),
    }
    this.#baseDir = baseDir
    this.#limits = limits
    this.#role = role
    if (options.password !== undefined) registerSecret(options.password)
    const { password } = parsed(options.url)
    if (password !== '') registerSecret(decodeURIComponent(password))
  }

  /** Resolved: the server has done it. `settings` are those of this statement. */
  command(doing: string, query: string, settings: ClickHouseSettings = {}): Promise<void> {
    return this.#with(doing, async (client) => {
      await client.command({ query, clickhouse_settings: settings })
    })
  }

  /** Rows as plain values; 64-bit integers as text. */
  rows(
    doing: string,
    query: string,
    parameters: Parameters = {},
    settings: ClickHouseSettings = {},
  ): Promise<Record<string, unknown>[]> {
    return this.#with(doing, async (client) => {
      const answer = await client.query({
        query,
        query_params: parameters,
        clickhouse_settings: settings,
        format: 'JSONEachRow',
        ...this.#soon(),
      })
      return answer.json<Record<string, unknown>>()
    })
  }

  /** By a statement that takes no format. `privilege` as GRANT takes it. */
  may(privilege: string): Promise<boolean> {
    return this.#with('ask for a privilege', async (client) => {
      const { stream } = await client.exec({ query: `CHECK GRANT ${privilege}`, ...this.#soon() })
      return (await text(stream)).trim() === '1'
    })
  }

  /** Streams a file as the body of an INSERT. Rejected: nothing of it was inserted, a part of it, or all of it. */
  insertFile(
    doing: string,
    query: string,
    file: string,
    { settings, signal }: { readonly settings: ClickHouseSettings; readonly signal: AbortSignal },
  ): Promise<void> {
    return this.#with(doing, async (client) => {
      signal.throwIfAborted()
      const { stream } = await client.exec({
        query,
        values: bodyOf(file),
        abort_signal: signal,
        clickhouse_settings: settings,
      })
      for await (const _ of stream); // until its end: what comes late is an error
    })
  }

  /** Streams what a SELECT gives, in the format that it names. The caller ends the stream; its errors are those of the net. */
  open(
    doing: string,
    query: string,
    {
      settings,
      compressed,
      signal,
    }: { readonly settings: ClickHouseSettings; readonly compressed: boolean; readonly signal: AbortSignal },
  ): Promise<OpenAnswer> {
    return this.#with(doing, async (client) => {
      signal.throwIfAborted()
      const { stream, response_headers } = await client.exec({
        query,
        abort_signal: signal,
        decompress_response_stream: true,
        clickhouse_settings: compressed ? { ...settings, enable_http_compression: 1 } : settings,
        ...(compressed ? { http_headers: { 'accept-encoding': 'zstd' } } : {}),
      })
      return { body: stream, headers: response_headers }
    })
  }

  async close(): Promise<void> {
    const client = await this.#client?.catch(() => undefined) // it never opened
    await client?.close()
  }

  #soon(): { readonly abort_signal?: AbortSignal } {
    if (this.#limits === undefined) return {}
    const { answerMs, signal } = this.#limits
    return { abort_signal: AbortSignal.any([signal, AbortSignal.timeout(answerMs)]) }
  }

  async #with<T>(doing: string, work: (client: ClickHouseClient) => Promise<T>): Promise<T> {
    try {
      this.#client ??= this.#connect()
      return await work(await this.#client)
    } catch (error) {
      throw this.#role.explain(error, doing)
    }
  }

  async #connect(): Promise<ClickHouseClient> {
    const { ClickHouseLogLevel, createClient } = await import('@clickhouse/client')
    const { connect_timeout, connections, password, statement_timeout, url } = this.#options
    const { origin, username, password: inUrl, protocol } = parsed(url)
    const pool = { keepAlive: true, maxSockets: connections, scheduling: 'lifo', timeout: 0 } as const
    const client = createClient({
      url: origin,
      username: decodeURIComponent(username) || 'default',
      password: password ?? decodeURIComponent(inUrl),
      application: 'adflow',
      request_timeout: statement_timeout + PATIENCE_MS,
      keep_alive: { enabled: true, idle_socket_ttl: IDLE_MS, eagerly_destroy_stale_sockets: true },
      http_agent:
        protocol === 'https:'
          ? new HttpsAgent({ ...pool, ...tlsMaterial(this.#options.tls, this.#baseDir) })
          : new HttpAgent(pool),
      log: { level: ClickHouseLogLevel.OFF },
      clickhouse_settings: this.#role.settings(Math.ceil(statement_timeout / 1000)),
    })
    try {
      await client
        .query({ query: 'SELECT 1', abort_signal: AbortSignal.timeout(connect_timeout) })
        .then((answer) => answer.text())
    } catch (error) {
      this.#client = undefined
      await client.close()
      throw error
    }
    return client
  }
}

function parsed(url: string): URL {
  try {
    return new URL(url)
  } catch (error) {
    throw new AdflowError('JOB_INVALID', 'the URL of the ClickHouse server does not parse', {
      cause: error,
      hint: 'write `https://user@host:8443/database`, and percent-encode what is special in it',
    })
  }
}
