/**
 * Offsets of a consumer group, for the tools that watch the lag of groups. Nothing reads them back: positions are those of the checkpoint, and
 * these follow it. A kill before they are told leaves them behind until the next batch.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Positions } from '../../core/contracts.ts'
import type { KafkaCluster } from './cluster.ts'
import { explainKafka, kafkaErrorName } from './errors.ts'
import { patiently } from './patience.ts'

/** So often at most: a stream saves several checkpoints a second. */
const EVERY_MS = 1000
/** A run does not end later than that for them. */
const LAST_MS = 3000
const GROUP = 0
const COORDINATOR_MOVED = ['NOT_COORDINATOR']
const HINTS: Readonly<Record<string, string>> = {
  GROUP_AUTHORIZATION_FAILED: 'grant the user READ on the consumer group',
  UNKNOWN_MEMBER_ID: 'consumers are members of it: let `group` name one of its own',
}
/** No member: the partitions are not shared out by the group. */
const NO_MEMBER = { generation: -1, id: '', instance: null } as const

interface Offset {
  readonly lane: string
  readonly at: string
}

export class GroupOffsets {
  readonly #cluster: KafkaCluster
  readonly #group: string
  readonly #log: Logger
  readonly #ending = new AbortController()
  #coordinator: number | undefined
  #wanted: Positions = {}
  #known: Positions = {}
  #telling: Promise<void> | undefined
  #lastError = ''

  constructor(cluster: KafkaCluster, group: string, log: Logger) {
    this.#cluster = cluster
    this.#group = group
    this.#log = log
  }

  /** Positions of lanes (`topic/partition`) whose checkpoint is durable. Does not wait; what fails is logged, and told with the next ones. */
  tell(positions: Positions): void {
    this.#wanted = { ...this.#wanted, ...positions }
    this.#begin()
  }

  /** Resolved when the last ones are told, or after a short while. */
  async close(): Promise<void> {
    this.#ending.abort()
    this.#begin()
    await Promise.race([this.#telling, delay(LAST_MS, undefined, { ref: false })])
  }

  #begin(): void {
    this.#telling ??= this.#tellAll().then((told) => {
      this.#telling = undefined
      if (told && this.#news().length > 0) this.#begin()
    })
  }

  /** false: what is left waits for the next ones. */
  async #tellAll(): Promise<boolean> {
    for (let news = this.#news(); news.length > 0; news = this.#news()) {
      const told = await this.#told(news)
      await delay(EVERY_MS, undefined, { signal: this.#ending.signal }).catch(() => undefined) // the last ones, at once
      if (!told) return false
    }
    return true
  }

  async #told(news: readonly Offset[]): Promise<boolean> {
    try {
      await patiently(() => this.#commit(news), LAST_MS, COORDINATOR_MOVED)
    } catch (error) {
      this.#failed(error)
      return false
    }
    this.#known = { ...this.#known, ...Object.fromEntries(news.map(({ lane, at }) => [lane, { at }])) }
    this.#lastError = ''
    return true
  }

  #news(): Offset[] {
    return Object.entries(this.#wanted).flatMap(([lane, { at }]) => (this.#known[lane]?.at === at ? [] : { lane, at }))
  }

  async #commit(news: readonly Offset[]): Promise<void> {
    const { findCoordinatorV4, offsetCommitV8 } = await this.#cluster.library()
    try {
      if (this.#coordinator === undefined) {
        const any = await this.#cluster.anyBroker()
        const { coordinators } = await findCoordinatorV4.api.async(any, GROUP, [this.#group])
        this.#coordinator = coordinators[0]?.nodeId ?? -1
      }
      const byTopic = Map.groupBy(news, ({ lane }) => lane.slice(0, lane.lastIndexOf('/')))
      const topics = [...byTopic].map(([name, lanes]) => ({
        name,
        partitions: lanes.map(({ lane, at }) => ({
          partitionIndex: Number(lane.slice(name.length + 1)),
          committedOffset: BigInt(at),
          committedLeaderEpoch: -1,
          committedMetadata: 'adflow',
        })),
      }))
      const { generation, id, instance } = NO_MEMBER
      await offsetCommitV8.api.async(
        await this.#cluster.broker(this.#coordinator),
        ...([this.#group, generation, id, instance, topics] as const),
      )
    } catch (error) {
      this.#coordinator = undefined
      throw error
    }
  }

  #failed(error: unknown): void {
    const name = kafkaErrorName(error) ?? ''
    const { message } = explainKafka(error, `tell the consumer group ${this.#group} how far it was read`)
    const hint = HINTS[name] ?? 'nothing is lost by it: positions are those of the checkpoint'
    if (message !== this.#lastError) this.#log.warn({ group: this.#group }, `${message}; ${hint}`)
    this.#lastError = message
  }
}
