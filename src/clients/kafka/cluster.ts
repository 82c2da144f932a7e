/** The connections of one component to the brokers of a cluster: made when they are needed, and made again when they broke. */
import { isIP } from 'node:net'
import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type * as Library from '@platformatic/kafka'
import { registerSecret } from '../../core/job/secrets.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { tlsMaterial } from '../../core/tls.ts'
import type { ConnectionOptions } from './options.ts'

export type KafkaLibrary = typeof Library
type Connection = Library.Connection
type Metadata = Library.metadataV12.MetadataResponse

/** By what the brokers know the requests in their logs and quotas. */
const CLIENT_ID = 'adflow'
/** Produce requests that a broker may have at once without an answer. */
const MAX_IN_FLIGHT = 5

/** Host and port of each of `brokers`, as they stand there: an address of IPv6 in its brackets. */
export function addressesOf({ brokers }: Pick<ConnectionOptions, 'brokers'>): { host: string; port: number }[] {
  return brokers.split(',').map((address) => {
    const colon = address.lastIndexOf(':')
    return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) }
  })
}

function usesTls({ brokers, tls }: Pick<ConnectionOptions, 'brokers' | 'tls'>): boolean {
  const mode = tls.mode ?? (addressesOf({ brokers }).every(({ host }) => isThisMachine(host)) ? 'off' : 'verify')
  return mode === 'verify'
}

export class KafkaCluster {
  readonly #options: ConnectionOptions
  readonly #baseDir: string
  readonly #connections = new Map<string, Promise<Connection>>()
  #library: Promise<KafkaLibrary> | undefined
  #brokers: ReadonlyMap<number, { readonly host: string; readonly port: number }> = new Map()
  readonly #topics = new Map<string, { readonly id: string; readonly leaders: readonly number[] }>()

  constructor(options: ConnectionOptions, baseDir: string) {
    this.#options = options
    this.#baseDir = baseDir
    if (options.sasl !== undefined) registerSecret(options.sasl.password)
  }

  get requestTimeoutMs(): number {
    return this.#options.request_timeout
  }

  library(): Promise<KafkaLibrary> {
    this.#library ??= import('@platformatic/kafka')
    return this.#library
  }

  /** Who is in the cluster, and who leads the partitions of these topics. Rejects where one of them is not there. */
  async metadata(topics: readonly string[]): Promise<Metadata> {
    const { metadataV12 } = await this.library()
    const found = await metadataV12.api.async(await this.anyBroker(), [...topics], false, false)
    this.#brokers = new Map(found.brokers.map(({ nodeId, host, port }) => [nodeId, { host, port }]))
    for (const { name, partitions, topicId } of found.topics) {
      const leaders: number[] = []
      for (const { partitionIndex, leaderId } of partitions) leaders[partitionIndex] = leaderId
      this.#topics.set(name ?? '', { id: topicId, leaders })
    }
    return found
  }

  /** Of all topics that the user may see. */
  async topicNames(): Promise<readonly string[]> {
    const { metadataV12 } = await this.library()
    // The list of nothing is none; no list is all.
    const all = null as unknown as string[]
    const { topics } = await metadataV12.api.async(await this.anyBroker(), all, false, false)
    return topics.flatMap(({ name }) => name ?? [])
  }

  /** A connection to whichever broker answers first of those that are named in the options. */
  async anyBroker(): Promise<Connection> {
    const failures: unknown[] = []
    for (const { host, port } of addressesOf(this.#options)) {
      try {
        return await this.#connection(host, port)
      } catch (error) {
        failures.push(error)
      }
    }
    throw failures.length === 1 ? failures[0] : new AggregateError(failures, 'no broker answers')
  }

  /** Partition → id of the broker that leads it, as metadata() has last seen it. */
  leaders(topic: string): readonly number[] {
    return this.#topics.get(topic)?.leaders ?? []
  }

  /** As metadata() has last seen it; empty where it has not. */
  topicId(topic: string): string {
    return this.#topics.get(topic)?.id ?? ''
  }

  async broker(nodeId: number): Promise<Connection> {
    if (!this.#brokers.has(nodeId)) await this.metadata([])
    const address = this.#brokers.get(nodeId)
    if (address === undefined) throw new Error(`broker ${nodeId} is not in the cluster now`)
    try {
      return await this.#connection(address.host, address.port)
    } catch (error) {
      // Another may lead its partitions by now: the next request asks.
      this.#brokers = new Map()
      this.#topics.clear()
      throw error
    }
  }

  /** Ends all connections at once: whatever waits on them fails. The next request opens new ones. */
  disconnect(): void {
    const open = [...this.#connections.values()]
    this.#connections.clear()
    for (const connection of open) void connection.then(({ socket }) => socket.destroy(), ignored)
  }

  async close(): Promise<void> {
    const open = [...this.#connections.values()]
    this.#connections.clear()
    await Promise.all(open.map((connection) => connection.then((own) => own.close(), ignored)))
  }

  #connection(host: string, port: number): Promise<Connection> {
    const key = `${host}:${port}`
    const known = this.#connections.get(key)
    if (known !== undefined) return known
    const opening = this.#connect(host, port, () => {
      if (this.#connections.get(key) === opening) this.#connections.delete(key)
    })
    this.#connections.set(key, opening)
    return opening
  }

  async #connect(host: string, port: number, gone: () => void): Promise<Connection> {
    try {
      const { Connection } = await this.library()
      const { connect_timeout, request_timeout, sasl } = this.#options
      const tls = this.#tls(bare(host))
      const connection = new Connection(CLIENT_ID, {
        connectTimeout: connect_timeout,
        requestTimeout: request_timeout,
        maxInflights: MAX_IN_FLIGHT,
        ...(tls === undefined ? {} : { tls }),
        ...(sasl === undefined
          ? {}
          : { sasl: { ...sasl, mechanism: sasl.mechanism.toUpperCase() as Library.SASLMechanismValue } }),
      })
      // Told to whoever waits for an answer; without a listener it would end the process.
      connection.on('error', gone)
      connection.on('close', gone)
      await connection.connect(bare(host), port)
      return connection
    } catch (error) {
      gone()
      throw error
    }
  }

  #tls(host: string): TlsOptions | undefined {
    if (!usesTls(this.#options)) return undefined
    // Both are what the certificate must be made out to; only a name may be told to the broker.
    const name = isIP(host) === 0 ? { servername: host } : { host }
    return { ...tlsMaterial(this.#options.tls, this.#baseDir), ...name, rejectUnauthorized: true }
  }
}

function bare(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}

/** Whoever asked for the connection was told. */
function ignored(): void {}
