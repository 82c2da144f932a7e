/**
 * A producer with a transactional id. The client's own keeps on trying behind its caller's back and starts its ids over;
 * here each step is one request, and after any that failed the outcome is open until init().
 */
import type { KafkaCluster, KafkaLibrary } from './cluster.ts'
import { MOVED, patiently } from './patience.ts'
import type { Compression, ProducerIdentity, RecordBatch } from './record-batch.ts'

/** Records for a topic. */
export interface Outgoing {
  readonly topic: string
  /** By partition. */
  readonly batches: ReadonlyMap<number, RecordBatch>
  readonly compression: Compression
}

interface Encoded {
  readonly topic: string
  readonly partition: number
  readonly bytes: Buffer
}

const TRANSACTION_COORDINATOR = 1
/** Within a transaction there is nothing to wait for: the next attempt looks for the new one. */
const COORDINATOR_MOVED = ['NOT_COORDINATOR']
const PRODUCE = { key: 0, version: 9 } as const
const ALL_REPLICAS = -1
const LAST_SEQUENCE = 0x7fffffff
const ABORT_LIMIT_MS = 2000

export class TransactionalProducer {
  readonly id: string
  readonly #cluster: KafkaCluster
  readonly #timeoutMs: number
  readonly #sequences = new Map<string, number>()
  readonly #inside = new Set<string>()
  #coordinator = -1
  #identity: ProducerIdentity = { producerId: -1n, producerEpoch: -1 }

  constructor(cluster: KafkaCluster, id: string, timeoutMs: number) {
    this.#cluster = cluster
    this.id = id
    this.#timeoutMs = timeoutMs
  }

  /** Resolved: whatever anybody has begun under the id is decided, and whoever did can do nothing more. */
  async init(): Promise<void> {
    const { findCoordinatorV4, initProducerIdV4 } = await this.#cluster.library()
    this.#identity = await this.#patiently(async () => {
      const found = await findCoordinatorV4.api.async(await this.#cluster.anyBroker(), TRANSACTION_COORDINATOR, [
        this.id,
      ])
      this.#coordinator = found.coordinators[0]?.nodeId ?? -1
      return initProducerIdV4.api.async(await this.#cluster.broker(this.#coordinator), this.id, this.#timeoutMs)
    }, COORDINATOR_MOVED)
    this.#sequences.clear()
    this.#inside.clear()
  }

  /** Sends what belongs to one transaction, all topics and partitions at once; resolved when every replica has it. */
  async send(outgoing: readonly Outgoing[]): Promise<void> {
    await this.#enter(outgoing)
    const library = await this.#cluster.library()
    const encoded = await Promise.all(
      outgoing.flatMap(({ topic, batches, compression }) =>
        [...batches].map(async ([partition, batch]): Promise<Encoded> => {
          const sequence = this.#next(topic, partition, batch)
          return { topic, partition, bytes: await batch.finish(library, this.#identity, sequence, compression) }
        }),
      ),
    )
    let known = true
    const sendAll = async () => {
      if (!known) await this.#cluster.metadata(outgoing.map(({ topic }) => topic))
      known = false
      const leaderOf = ({ topic, partition }: Encoded) => this.#cluster.leaders(topic)[partition] ?? -1
      await Promise.all(
        [...Map.groupBy(encoded, leaderOf)].map(async ([leader, own]) =>
          this.#produce(library).async(
            await this.#cluster.broker(leader),
            Map.groupBy(own, ({ topic }) => topic),
          ),
        ),
      )
    }
    // What a broker has already it knows by its sequence, and does not take again.
    await this.#patiently(sendAll, MOVED)
  }

  /** Rejected: whether it was committed is open. */
  async end(commit: boolean): Promise<void> {
    const { endTxnV3 } = await this.#cluster.library()
    const { producerEpoch, producerId } = this.#identity
    await this.#patiently(async () =>
      endTxnV3.api.async(await this.#cluster.broker(this.#coordinator), this.id, producerId, producerEpoch, commit),
    )
    this.#inside.clear()
  }

  /** After a failure, so that readers need not wait for a transaction that nobody goes on with. Tried once, and not for long. */
  async abandon(): Promise<void> {
    if (this.#inside.size === 0) return
    const { promise: patience, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, ABORT_LIMIT_MS)
    // init() of the next attempt aborts it, too.
    await Promise.race([this.end(false).catch(() => undefined), patience])
    clearTimeout(timer)
  }

  async #enter(outgoing: readonly Outgoing[]): Promise<void> {
    const isNew = (topic: string) => (partition: number) => !this.#inside.has(placeOf(topic, partition))
    const topics = outgoing
      .map(({ topic, batches }) => ({ name: topic, partitions: [...batches.keys()].filter(isNew(topic)) }))
      .filter(({ partitions }) => partitions.length > 0)
    if (topics.length === 0) return
    const { addPartitionsToTxnV3 } = await this.#cluster.library()
    for (const { name, partitions } of topics)
      for (const partition of partitions) this.#inside.add(placeOf(name, partition))
    await this.#patiently(async () =>
      addPartitionsToTxnV3.api.async(await this.#cluster.broker(this.#coordinator), [
        { transactionalId: this.id, ...this.#identity, verifyOnly: false, topics },
      ]),
    )
  }

  #next(topic: string, partition: number, { records }: RecordBatch): number {
    const place = placeOf(topic, partition)
    const sequence = this.#sequences.get(place) ?? 0
    this.#sequences.set(place, (sequence + records) % (LAST_SEQUENCE + 1))
    return sequence
  }

  #produce({ Writer, createAPI, produceV9 }: KafkaLibrary) {
    const { requestTimeoutMs } = this.#cluster
    const request = (topics: ReadonlyMap<string, readonly Encoded[]>) =>
      Writer.create()
        .appendString(this.id)
        .appendInt16(ALL_REPLICAS)
        .appendInt32(requestTimeoutMs)
        .appendArray([...topics], (own, [topic, partitions]) => {
          own.appendString(topic).appendArray([...partitions], (each, { partition, bytes }) => {
            each
              .appendInt32(partition)
              .appendUnsignedVarInt(bytes.length + 1)
              .append(bytes)
          })
        })
        .appendTaggedFields()
    return createAPI<Parameters<typeof request>, ReturnType<typeof produceV9.parseResponse>>(
      PRODUCE.key,
      PRODUCE.version,
      request,
      produceV9.parseResponse,
    )
  }

  #patiently<T>(work: () => Promise<T>, also?: readonly string[]): Promise<T> {
    return patiently(work, this.#cluster.requestTimeoutMs, also)
  }
}

function placeOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
