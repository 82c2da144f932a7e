/** The batches that a topic holds: a compacted topic beside it, written in the batch's own transaction. */
import type { BatchInfo, StoreRecord } from '../../core/contracts.ts'
import { type BatchEntry, type FoldedLane, parseRecord, pieceToken, recordOf } from './batch-entries.ts'
import { BatchMemory, type Fold, type HeldBatch, type MemoryOptions } from './batch-memory.ts'
import type { KafkaCluster } from './cluster.ts'
import { readCommitted } from './log.ts'
import type { KafkaRecord } from './record-batch.ts'

/** Name of the topic of batches beside a topic. */
export function ledgerTopicOf(topic: string): string {
  return `_adflow_batches.${topic}`
}

export class BatchLedger {
  readonly topic: string
  readonly memory: BatchMemory
  readonly #cluster: KafkaCluster
  #next = 0n

  constructor(cluster: KafkaCluster, topic: string, options: MemoryOptions) {
    this.#cluster = cluster
    this.topic = topic
    this.memory = new BatchMemory(options)
  }

  /** What has come since the last time. */
  async readOn(): Promise<void> {
    this.#next = await readCommitted(this.#cluster, this.topic, this.#next, (records) => {
      for (const record of records) this.memory.take(parseRecord(this.topic, record))
    })
  }

  find(token: string): HeldBatch | undefined {
    return this.memory.find(token)
  }

  /** After the commit. */
  remember(info: BatchInfo, loader: string, rows: number): void {
    this.memory.take({ type: 'entry', token: info.token, entry: entryOf(info, loader, rows) })
  }

  /** By loader too: the positions of one loader say nothing about those of another into the same topic. */
  async history(job: string, loader: string): Promise<readonly StoreRecord[]> {
    const found = new Map<string, StoreRecord>()
    const folded = new Map<string, FoldedLane>()
    await readCommitted(this.#cluster, this.topic, 0n, (records) => {
      for (const each of records) {
        const record = parseRecord(this.topic, each)
        if (record.type === 'gone') found.delete(record.token)
        else if (record.type === 'folded') folded.set(record.key, record.lane)
        else if (record.entry.job === job && record.entry.loader === loader) {
          const { clock, digest, from, lane, rows, source, to } = record.entry
          const { token } = record
          found.set(token, { token, source, range: { lane, from, to }, digest, rows, clock })
        }
      }
    })
    const lanes = [...folded.values()].filter((own) => own.job === job && own.loader === loader)
    return [...lanes.flatMap(storeRecords), ...found.values()]
  }

  record(info: BatchInfo, loader: string, rows: number): KafkaRecord {
    return recordOf(info.token, entryOf(info, loader, rows))
  }

  /** Of what is folded: the lanes as they are then, and a tombstone for each entry that goes. */
  foldRecords({ lanes, tokens }: Fold): readonly KafkaRecord[] {
    return [
      ...[...lanes].map(([key, lane]) => recordOf(key, lane)),
      ...tokens.map((token) => recordOf(token, undefined)),
    ]
  }
}

function entryOf({ clock, digest, job, range, source }: BatchInfo, loader: string, rows: number): BatchEntry {
  return { job, loader, source, lane: range.lane, from: range.from, to: range.to, digest, rows, clock }
}

function storeRecords(own: FoldedLane): StoreRecord[] {
  return own.folded.map((piece) => ({
    token: pieceToken(own, piece),
    source: own.source,
    range: { lane: own.lane, from: piece.from, to: piece.to },
    digest: '',
    rows: piece.rows,
    folded: piece.batches,
  }))
}
