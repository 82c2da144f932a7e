/**
 * One client per component: a connection, or one to each node of a cluster. What was sent and not answered is never sent again
 * by the client; a client that broke is replaced when somebody asks next.
 */
import { isIP } from 'node:net'
import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { Cluster, Redis, RedisOptions } from 'ioredis'
import { AdflowError } from '../../core/errors.ts'
import { registerSecret } from '../../core/job/secrets.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { tlsMaterial } from '../../core/tls.ts'
import { explainRedis, isAnswer } from './errors.ts'
import type { ConnectionOptions } from './options.ts'

/** A server that is silent does not hang up either. */
const HANG_UP_MS = 200

export type RedisClient = Redis | Cluster

export interface Use {
  readonly client: RedisClient
  /** Each by itself. */
  readonly masters: readonly Redis[]
  /** Waits until replicas have what was written, where the job wants that. A master that took something and is gone since has
   *  confirmed nothing. @throws AdflowError STORE_UNAVAILABLE */
  readonly confirm: () => Promise<void>
}

export interface RedisPlace {
  readonly host: string
  readonly port: string
  readonly database: number
  readonly user: string
  readonly secure: boolean
}

/** Of the first node. @throws AdflowError JOB_INVALID where the URL does not parse */
export function placeOf({ url, tls }: Pick<ConnectionOptions, 'url' | 'tls'>): RedisPlace {
  const { hostname, port, pathname, protocol, username } = parsed([url].flat()[0] ?? '')
  const secure = protocol === 'rediss:' || (tls.mode ?? (isThisMachine(hostname) ? 'off' : 'verify')) === 'verify'
  const user = decodeURIComponent(username)
  return { host: hostname, port: port === '' ? '6379' : port, database: Number(pathname.slice(1)), user, secure }
}

export class RedisServer {
  readonly #options: ConnectionOptions
  readonly #baseDir: string
  #live: RedisClient | undefined
  #connecting: Promise<RedisClient> | undefined

  constructor(options: ConnectionOptions, baseDir: string) {
    this.#options = options
    this.#baseDir = baseDir
    for (const secret of [options.password, options.sentinel_password]) if (secret !== undefined) registerSecret(secret)
    for (const url of [options.url].flat()) {
      const { password } = parsed(url)
      if (password !== '') registerSecret(decodeURIComponent(password))
    }
  }

  /** Several at once share the client. One that was aborted, or that broke, is closed, for all of them. */
  async with<T>(doing: string, work: (use: Use) => Promise<T>, signal?: AbortSignal): Promise<T> {
    let client: RedisClient | undefined
    const abort = () => this.#drop(client)
    try {
      signal?.throwIfAborted()
      client = await this.#open()
      signal?.addEventListener('abort', abort, { once: true })
      signal?.throwIfAborted()
      const used = client
      const masters = mastersOf(used)
      const confirm = () => this.#confirm([...masters, ...mastersOf(used)])
      return await work({ client: used, masters, confirm })
    } catch (error) {
      if (!isAnswer(error)) this.#drop(client)
      throw explainRedis(error, doing)
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  async #confirm(masters: readonly Redis[]): Promise<void> {
    const { wait } = this.#options
    if (wait === undefined) return
    const counts = await Promise.all([...new Set(masters)].map((node) => node.wait(wait.replicas, wait.timeout)))
    const least = Math.min(...counts)
    if (least < wait.replicas)
      throw new AdflowError(
        'STORE_UNAVAILABLE',
        `${least} of ${wait.replicas} replicas have confirmed a batch within ${wait.timeout} ms`,
        { hint: 'bring the replicas back, or lower `wait.replicas`; the next attempt repeats nothing' },
      )
  }

  async close(): Promise<void> {
    const client = await this.#connecting?.catch(() => undefined) // it never opened
    this.#drop(client)
  }

  #open(): Promise<RedisClient> {
    if (this.#live !== undefined && this.#live.status !== 'ready') this.#drop(this.#live)
    this.#connecting ??= this.#connect()
    return this.#connecting
  }

  #drop(client: RedisClient | undefined): void {
    client?.disconnect()
    if (client !== undefined && this.#live !== client) return
    this.#live = undefined
    this.#connecting = undefined
  }

  async #connect(): Promise<RedisClient> {
    const { topology } = this.#options
    const { client, lastError } = await this.#create(topology)
    try {
      await client.connect()
      // The client goes on where the server refuses the database: in another one.
      const refused = lastError()
      if (refused?.name === 'ReplyError' && topology !== 'cluster') throw refused
      this.#live = client
      return client
    } catch (error) {
      client.disconnect()
      this.#connecting = undefined
      if (topology !== 'single') await this.#askOneNode()
      throw lastError() ?? error
    }
  }

  /** The client of a cluster, or of Sentinels, keeps to itself why a node does not answer. Rejects for that reason. */
  async #askOneNode(): Promise<void> {
    const { client, lastError } = await this.#create('single')
    if (this.#options.topology === 'sentinel' && 'options' in client)
      Object.assign(client.options, { username: null, password: this.#options.sentinel_password ?? null, db: 0 })
    try {
      await client.connect()
    } catch (error) {
      throw lastError() ?? error
    } finally {
      client.disconnect()
    }
  }

  async #create(
    topology: ConnectionOptions['topology'],
  ): Promise<{ readonly client: RedisClient; readonly lastError: () => Error | undefined }> {
    const { Cluster, Redis } = await import('ioredis')
    const { connect_timeout, master, sentinel_password, url } = this.#options
    const nodes = [url].flat().map((node) => {
      const { host, port } = placeOf({ url: node, tls: {} })
      return { host, port: Number(port) }
    })
    let last: Error | undefined
    // That a connection was closed says less than why.
    const remember = (error: Error & { readonly lastNodeError?: Error }) => {
      const cause = error.lastNodeError ?? error
      if (last === undefined || cause.message !== 'Connection is closed.') last = cause
    }
    const lastError = () => last
    const options = this.#clientOptions()
    if (topology === 'cluster') {
      const client = new Cluster(nodes, {
        redisOptions: options,
        lazyConnect: true,
        // What has not been sent waits for a node whose connection is being made.
        enableOfflineQueue: true,
        enableReadyCheck: false,
        enableAutoPipelining: false,
        clusterRetryStrategy: () => null,
        slotsRefreshTimeout: connect_timeout,
        // A script that was not answered is not sent again here: whoever wrote the batch decides.
        retryDelayOnFailover: 0,
        // The name, not its address, is what a certificate is made out to.
        dnsLookup: (address, done) => done(null, address),
      })
      client.on('error', remember)
      client.on('node error', remember)
      return { client, lastError }
    }
    const [node] = nodes
    const sentinel = {
      sentinels: nodes,
      name: master ?? '',
      sentinelRetryStrategy: () => null,
      ...(sentinel_password === undefined ? {} : { sentinelPassword: sentinel_password }),
      ...(options.tls === undefined ? {} : { sentinelTLS: options.tls, enableTLSForSentinelMode: true }),
    }
    const client = topology === 'sentinel' ? new Redis({ ...options, ...sentinel }) : new Redis({ ...options, ...node })
    client.on('error', remember)
    return { client, lastError }
  }

  #clientOptions() {
    const { command_timeout, connect_timeout, password, topology, url } = this.#options
    const { database, user } = placeOf(this.#options)
    const secret = password ?? decodeURIComponent(parsed([url].flat()[0] ?? '').password)
    const tls = this.#tls()
    return {
      ...(user === '' ? {} : { username: user }),
      ...(secret === '' ? {} : { password: secret }),
      ...(topology === 'cluster' ? {} : { db: database }),
      ...(tls === undefined ? {} : { tls }),
      connectTimeout: connect_timeout,
      commandTimeout: command_timeout,
      disconnectTimeout: HANG_UP_MS,
      lazyConnect: true,
      enableReadyCheck: false,
      enableOfflineQueue: false,
      enableAutoPipelining: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      retryStrategy: () => null,
      disableClientInfo: true,
      protocol: 2,
    } satisfies RedisOptions
  }

  #tls(): TlsOptions | undefined {
    const { host, secure } = placeOf(this.#options)
    if (!secure) return undefined
    // Only a name may be told to the server.
    const name = isIP(host) === 0 && this.#options.topology === 'single' ? { servername: host } : {}
    return { ...tlsMaterial(this.#options.tls, this.#baseDir), ...name, rejectUnauthorized: true }
  }
}

function mastersOf(client: RedisClient): readonly Redis[] {
  return 'nodes' in client ? client.nodes('master') : [client]
}

function parsed(url: string): URL {
  try {
    return new URL(url)
  } catch (error) {
    throw new AdflowError('JOB_INVALID', 'the URL of the Redis server does not parse', {
      cause: error,
      hint: 'write `redis://user@host:6379/0`, and percent-encode what is special in it',
    })
  }
}
