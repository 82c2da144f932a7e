/** A topic of Kafka: the records of a batch and the batch's own entry in one transaction. */
import { hash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { BatchLedger, ledgerTopicOf } from '../clients/kafka/batch-ledger.ts'
import type { HeldBatch } from '../clients/kafka/batch-memory.ts'
import { BatchTransactions } from '../clients/kafka/batch-transactions.ts'
import { addressesOf, KafkaCluster } from '../clients/kafka/cluster.ts'
import { diagnoseKafka } from '../clients/kafka/diagnose.ts'
import { fixedHeaders } from '../clients/kafka/event-headers.ts'
import { connectionShape } from '../clients/kafka/options.ts'
import { TransactionalProducer } from '../clients/kafka/producer.ts'
import { headersGoWithEvents, recordShape } from '../clients/kafka/record-options.ts'
import { expressionsOf, frameSelect, partsOf, type RecordParts } from '../clients/kafka/record-parts.ts'
import { remarksOf } from '../clients/kafka/remarks.ts'
import { requireLedgerTopic, requireTopic } from '../clients/kafka/topics.ts'
import { requireTransactions } from '../clients/kafka/version.ts'
import type { Column, EngineConnection, LoadBatch, Loader, LoaderEnv, Receipt, StoreRecord } from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { byteSize, duration } from '../core/job/units.ts'
import { emptyRelation } from '../engine/relation.ts'
import { rowJson } from '../engine/row-json.ts'

const options = z
  .strictObject({
    ...connectionShape,
    topic: z
      .string()
      .regex(/^(?!_adflow)(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}$/, 'letters, digits, `.`, `_` and `-`')
      .describe('The topic.'),
    ...recordShape,
    compression: z
      .enum(['none', 'gzip', 'snappy', 'lz4', 'zstd'])
      .default('zstd')
      .describe('How records are compressed, many at a time.'),
    create: z
      .enum(['missing', 'never'])
      .default('missing')
      .describe('`missing`: the topic, and the topic of batches beside it, are made where they are missing.'),
    partitions: z
      .int()
      .positive()
      .optional()
      .describe('Partitions of a topic that is made. Default: num.partitions of the brokers.'),
    replication_factor: z
      .int()
      .positive()
      .optional()
      .describe(
        'Copies of each partition of a topic that is made. Default: default.replication.factor of the brokers.',
      ),
    topic_config: z
      .record(z.string().min(1), z.string())
      .default({})
      .describe('Settings of a topic that is made, as Kafka names them: `{ retention.ms: "604800000" }`.'),
    ledger_topic: z
      .string()
      .regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/, 'letters, digits, `.`, `_` and `-`')
      .optional()
      .describe('The topic of batches. Default: `_adflow_batches.<topic>`.'),
    remember_batches: z
      .int()
      .positive()
      .default(10_000)
      .describe(
        'So many batches of the job are known one by one: they can come again, and are found there. Of older ones the topic of batches knows what range of each lane it has, and refuses what reaches into that.',
      ),
    max_message: byteSize
      .prefault('1MiB')
      .describe(
        'Bytes of one record, and of those that go to a partition at once, before compression. At most max.message.bytes of the topic; a record beyond it is an error.',
      ),
    transaction_timeout: duration
      .prefault('5m')
      .describe(
        'How long the brokers wait for the end of a batch. Longer than it takes to send one; at most transaction.max.timeout.ms of the brokers (15 minutes unless changed). Readers may have to wait so long where adflow died and is not started again.',
      ),
  })
  .superRefine(headersGoWithEvents)

type Options = z.infer<typeof options>

let files = 0

class KafkaLoader implements Loader {
  readonly replay = 'transaction'
  readonly order = 'none'
  readonly streams = 'chunks'
  readonly #options: Options
  readonly #env: LoaderEnv
  readonly #cluster: KafkaCluster
  readonly #transactions: BatchTransactions
  readonly #ledger: BatchLedger
  readonly #parts = new Map<string, Promise<RecordParts>>()
  #clusterId: Promise<string> | undefined

  constructor(chosen: Options, env: LoaderEnv) {
    const { topic, transaction_timeout } = chosen
    const ledgerTopic = chosen.ledger_topic ?? ledgerTopicOf(topic)
    this.#options = chosen
    this.#env = env
    this.#cluster = new KafkaCluster(chosen, env.baseDir)
    // By job and topic, not by loader: whoever may write a token to the topic must not be able to do so beside another.
    const place = hash('sha256', JSON.stringify([env.job, topic, ledgerTopic])).slice(0, 12)
    // Shards have no token in common, and go on beside each other.
    const part = env.shard === undefined ? '' : `-${env.shard.index}-of-${env.shard.of}`
    const id = `adflow-${env.job}-${place}${part}`
    this.#ledger = new BatchLedger(this.#cluster, ledgerTopic, {
      ...{ job: env.job, shard: env.shard, input: env.input ?? 'main', remember: chosen.remember_batches },
    })
    const { compression, max_message: maxMessageBytes } = chosen
    this.#transactions = new BatchTransactions({
      ...{ topic, compression, maxMessageBytes, timeoutMs: transaction_timeout },
      ...{ cluster: this.#cluster, ledger: this.#ledger, loader: env.id },
      producer: new TransactionalProducer(this.#cluster, id, transaction_timeout),
      prepared: () => this.#prepared(),
    })
  }

  dataset() {
    const [first] = addressesOf(this.#options)
    return { namespace: `kafka://${first?.host}:${first?.port}`, name: this.#options.topic }
  }

  async open({ engine, columns }: Parameters<Loader['open']>[0]): Promise<void> {
    await this.#recordParts(engine, columns)
    await this.#transactions.decided(`open ${this.#options.topic}`, async () => undefined)
  }

  async write(batch: LoadBatch, { signal }: { readonly signal: AbortSignal }): Promise<Receipt> {
    signal.throwIfAborted()
    const held = await this.#transactions.find(batch, signal)
    if (held !== undefined) return this.#repeated(batch, held)
    const parts = await this.#recordParts(batch.engine, batch.columns)
    files += 1
    const file = join(this.#env.workDir, `kafka-${batch.token.slice(0, 12)}-${process.pid}-${files}.records`)
    try {
      const rows = await batch.encode('bytes', { file, select: frameSelect(parts) })
      const fixed = fixedHeaders(this.#options.cloudevents, batch)
      const other = await this.#transactions.send({ batch, file, parts, fixed, rows, signal })
      return other === undefined ? this.#receipt(rows, false) : this.#repeated(batch, other)
    } finally {
      await rm(file, { force: true }).catch((error: unknown) => {
        throw localIoError(error, `remove ${file}`)
      })
    }
  }

  async probe(token: string): Promise<Receipt | undefined> {
    const held = await this.#transactions.decided(`look for a batch in ${this.#options.topic}`, async (fresh) => {
      if (!fresh) await this.#ledger.readOn()
      return this.#ledger.find(token)
    })
    return held === undefined ? undefined : this.#receipt(held.rows, true)
  }

  history(job: string): Promise<readonly StoreRecord[]> {
    const doing = `read the batches of ${this.#options.topic}`
    // A commit is answered before the brokers have marked its records everywhere; initialising the id waits for that.
    return this.#transactions.decided(doing, () => this.#ledger.history(job, this.#env.id), [], true)
  }

  close(): Promise<void> {
    return this.#cluster.close()
  }

  /** Id of the cluster; the topics are there. A store that was down at the start may be asked later. */
  #prepared(): Promise<string> {
    this.#clusterId ??= this.#prepare().catch((error) => {
      this.#clusterId = undefined
      throw error
    })
    return this.#clusterId
  }

  async #prepare(): Promise<string> {
    const { create, partitions = -1, replication_factor: replicationFactor = -1, topic, topic_config } = this.#options
    const { clusterId } = await this.#cluster.metadata([])
    await requireTransactions(this.#cluster)
    const may = create === 'missing'
    await requireTopic(this.#cluster, { name: topic, partitions, replicationFactor, config: topic_config }, may)
    await requireLedgerTopic(this.#cluster, this.#ledger.topic, replicationFactor, may)
    return clusterId ?? ''
  }

  #recordParts(engine: EngineConnection, columns: readonly Column[]): Promise<RecordParts> {
    const list = JSON.stringify(columns.map(({ name, type }) => [name, type]))
    const known = this.#parts.get(list) ?? this.#describe(engine, columns)
    this.#parts.set(list, known)
    known.catch(() => this.#parts.delete(list))
    return known
  }

  async #describe(engine: EngineConnection, columns: readonly Column[]): Promise<RecordParts> {
    const expressions = expressionsOf(this.#options)
    if (expressions.length === 0) return partsOf(this.#options, [], rowJson(columns))
    const items = expressions.map(({ sql }, index) => `(${sql}\n) AS e${index}`)
    const described = await engine
      .rows(`DESCRIBE SELECT ${items.join(', ')} FROM (${emptyRelation(columns).sql})`)
      .catch((error: unknown) => {
        throw new AdflowError('SQL_INVALID', `an expression of ${this.#env.id}: ${(error as Error).message}`, {
          cause: error,
          hint: `columns here: ${columns.map(({ name }) => name).join(', ')}`,
        })
      })
    const types = described.map((row) => String(row['column_type']))
    return partsOf(this.#options, types, rowJson(columns))
  }

  #repeated({ range, source, token, digest }: LoadBatch, held: HeldBatch): Receipt {
    if (held.digest === digest) return this.#receipt(held.rows, true)
    throw new AdflowError(
      'STORE_MISMATCH',
      `${this.#options.topic} holds batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) with the digest ${held.digest}; it now has other bytes`,
      { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
    )
  }

  #receipt(rows: number, repeated: boolean): Receipt {
    return { rows, repeated, outputs: [this.dataset().name] }
  }
}

export default defineLoader({
  summary: 'Writes records into a topic of Kafka, a batch in one transaction.',
  description: `A batch is one transaction: its records, and its entry in a compacted topic beside the topic, \`_adflow_batches.<topic>\`. Readers with
\`isolation.level=read_committed\` see all of a batch or nothing of it, whatever is killed and when; others also see what was given up.
A batch that comes again is refused by its entry, also where the answer to the commit was lost: before the entries are looked at
the transactional id is initialised, which decides what was left open, and fences off whoever began it. There is one transactional id for a job (each shard of it) and a
topic: two jobs never disturb each other, two processes of one job (which the lock of the state directory prevents on one machine) cannot both
write a batch, and the one that is late ends with STORE_DENIED. What a killed process left open holds readers up until the job is
started again, or until \`transaction_timeout\`.

Batches are appended, several are encoded at a time; those that wait while a transaction is under way share the next one. The entries are read at
the start of a run. Who deletes the topic and wants it filled again deletes the topic of batches too.

**The horizon.** The newest \`remember_batches\` of the job, and 64 of each lane, have an entry each, some hundred bytes on disk and in memory. Older ones are folded, in the transactions of
the batches that come: what is left is the range of each lane that the topic has. No run asks for those by itself. A batch that does reach into such a range is refused: a state from a backup
that is older ends with STATE_MISSING, and \`adflow recover JOB --force\` goes on behind what the topic has; \`state rewind\` reaches back so far without \`--reload\`. How much a start reads beyond that depends on when the brokers compact:
topics that adflow makes have small segments, and \`adflow doctor\` says how to set those of others.

**Values** are what NDJSON files have: integers are numbers of any size, decimals of more than 15 digits strings, points in time text as the
engine shows it, NaN and infinity strings (inside structs and lists they are bare); JSON goes in as it is. \`value\` is for everything else.

**Order.** Records of one key are in the order of their batch. Batches of one lane may overtake each other after a failure.

**Least privilege.** WRITE and DESCRIBE on the topic; READ, WRITE, DESCRIBE and DESCRIBE_CONFIGS on the topic of batches; WRITE and DESCRIBE on transactional
ids that begin with \`adflow-\`; IDEMPOTENT_WRITE is not needed. With \`create: missing\`, CREATE on both topics where they are missing.
Kafka 3.6 or newer, for the brokers before it let a late request into the wrong transaction. For topics that must not lose anything: three
copies, and \`min.insync.replicas: "2"\`.`,
  options,
  example: {
    brokers: '127.0.0.1:9092',
    topic: 'ads.events',
    key: 'campaign_id',
    headers: { event_type: 'event_type' },
    timestamp: 'event_time',
    compression: 'lz4',
  },
  check: remarksOf,
  diagnose(chosen, env) {
    const { create, ledger_topic, topic } = chosen
    const ledgerTopic = ledger_topic ?? ledgerTopicOf(topic)
    return diagnoseKafka(chosen, { topic, ledgerTopic, create: create === 'missing' }, env)
  },
  create: (chosen, env) => new KafkaLoader(chosen, env),
})
