/** The batches that a topic holds: a compacted topic beside it, written in the batch's own transaction. */
import { z } from 'zod'
import type { BatchInfo, StoreRecord } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { KafkaCluster } from './cluster.ts'
import { type LogRecord, readCommitted } from './log.ts'
import type { KafkaRecord } from './record-batch.ts'

export interface HeldBatch {
  readonly digest: string
  readonly rows: number
}

const entrySchema = z.object({
  job: z.string(),
  loader: z.string(),
  source: z.string(),
  lane: z.string(),
  from: z.string(),
  to: z.string(),
  digest: z.string(),
  rows: z.int().nonnegative(),
  clock: z.string(),
})

/** A stream asks for batches that it has just sent, and not for those of last week: so many that came after the first look are remembered. */
export const REMEMBERED_BATCHES = 10_000

/** Name of the topic of batches beside a topic. */
export function ledgerTopicOf(topic: string): string {
  return `_adflow_batches.${topic}`
}

export class BatchLedger {
  readonly topic: string
  readonly #cluster: KafkaCluster
  /** What was there at the first look: whoever goes back to an earlier position may ask for any of it. */
  readonly #before = new Map<string, HeldBatch>()
  /** What has come since, by age. */
  readonly #since = new Map<string, HeldBatch>()
  #next = 0n
  #looked = false

  constructor(cluster: KafkaCluster, topic: string) {
    this.#cluster = cluster
    this.topic = topic
  }

  /** What has come since the last time. */
  async readOn(): Promise<void> {
    this.#next = await readCommitted(this.#cluster, this.topic, this.#next, (records) => {
      for (const record of records) {
        const { digest, rows } = this.#entry(record)
        if (this.#looked) this.#keep(String(record.key), { digest, rows })
        else this.#before.set(String(record.key), { digest, rows })
      }
    })
    this.#looked = true
  }

  find(token: string): HeldBatch | undefined {
    return this.#since.get(token) ?? this.#before.get(token)
  }

  /** After the commit. */
  remember({ token, digest }: BatchInfo, rows: number): void {
    this.#keep(token, { digest, rows })
  }

  /** By loader too: the positions of one loader say nothing about those of another into the same topic. */
  async history(job: string, loader: string): Promise<readonly StoreRecord[]> {
    const found = new Map<string, StoreRecord>()
    await readCommitted(this.#cluster, this.topic, 0n, (records) => {
      for (const record of records) {
        const entry = this.#entry(record)
        if (entry.job !== job || entry.loader !== loader) continue
        const { clock, digest, from, lane, rows, source, to } = entry
        const token = String(record.key)
        found.set(token, { token, source, range: { lane, from, to }, digest, rows, clock })
      }
    })
    return [...found.values()]
  }

  record({ clock, digest, job, range, source, token }: BatchInfo, loader: string, rows: number): KafkaRecord {
    const entry: z.infer<typeof entrySchema> = {
      ...{ job, loader, source, lane: range.lane, from: range.from, to: range.to },
      ...{ digest, rows, clock },
    }
    return {
      key: Buffer.from(token),
      value: Buffer.from(JSON.stringify(entry)),
      headers: [],
      timestampMs: Date.now(),
    }
  }

  #keep(token: string, held: HeldBatch): void {
    this.#since.delete(token)
    this.#since.set(token, held)
    const [oldest] = this.#since.keys()
    if (this.#since.size > REMEMBERED_BATCHES && oldest !== undefined) this.#since.delete(oldest)
  }

  #entry({ offset, value }: LogRecord): z.infer<typeof entrySchema> {
    try {
      return entrySchema.parse(JSON.parse(String(value)))
    } catch (error) {
      throw new AdflowError('STORE_DAMAGED', `record ${offset} of ${this.topic} is no entry of a batch`, {
        cause: error,
        hint: 'only adflow may write to this topic: find out who else does, and restore it',
      })
    }
  }
}
