/**
 * A producer with a transactional id. The client's own keeps on trying behind its caller's back and starts its ids over;
 * here each step is one request, and after any that failed the outcome is open until init().
 */
import type { KafkaCluster, KafkaLibrary } from './cluster.ts'
import { MOVED, patiently } from './patience.ts'
import type { Compression, ProducerIdentity, RecordBatch } from './record-batch.ts'

/** Partition → records for it. */
type Partitioned = ReadonlyMap<number, RecordBatch>

type Encoded = [partition: number, batch: Buffer]

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

  /** Sends what belongs to one transaction, all partitions at once; resolved when every replica has it. */
  async send(topic: string, batches: Partitioned, compression: Compression): Promise<void> {
    await this.#add(topic, [...batches.keys()])
    const library = await this.#cluster.library()
    const encoded: Encoded[] = []
    for (const [partition, batch] of batches) {
      const sequence = this.#next(topic, partition, batch)
      encoded.push([partition, await batch.finish(library, this.#identity, sequence, compression)])
    }
    let known = true
    const sendAll = async () => {
      if (!known) await this.#cluster.metadata([topic])
      known = false
      const byLeader = Map.groupBy(encoded, ([partition]) => this.#cluster.leaders(topic)[partition] ?? -1)
      await Promise.all(
        [...byLeader].map(async ([leader, own]) =>
          this.#produce(library).async(await this.#cluster.broker(leader), topic, own),
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

  async #add(topic: string, partitions: readonly number[]): Promise<void> {
    const added = partitions.filter((partition) => !this.#inside.has(`${topic}/${partition}`))
    if (added.length === 0) return
    const { addPartitionsToTxnV3 } = await this.#cluster.library()
    for (const partition of added) this.#inside.add(`${topic}/${partition}`)
    await this.#patiently(async () =>
      addPartitionsToTxnV3.api.async(await this.#cluster.broker(this.#coordinator), [
        {
          transactionalId: this.id,
          ...this.#identity,
          verifyOnly: false,
          topics: [{ name: topic, partitions: added }],
        },
      ]),
    )
  }

  #next(topic: string, partition: number, { records }: RecordBatch): number {
    const place = `${topic}/${partition}`
    const sequence = this.#sequences.get(place) ?? 0
    this.#sequences.set(place, (sequence + records) % (LAST_SEQUENCE + 1))
    return sequence
  }

  #produce({ Writer, createAPI, produceV9 }: KafkaLibrary) {
    const { requestTimeoutMs } = this.#cluster
    const request = (topic: string, partitions: Encoded[]) =>
      Writer.create()
        .appendString(this.id)
        .appendInt16(ALL_REPLICAS)
        .appendInt32(requestTimeoutMs)
        .appendArray([topic], (own, name) => {
          own.appendString(name).appendArray(partitions, (each, [partition, batch]) => {
            each
              .appendInt32(partition)
              .appendUnsignedVarInt(batch.length + 1)
              .append(batch)
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
