/**
 * Batches on their way into a topic: the records of those that wait together, and their entries, in one transaction. What is open is
 * decided before anything is looked up or sent.
 */
import { AdflowError } from '../../core/errors.ts'
import { PieceBuffers } from '../../records/piece-buffers.ts'
import type { FoldedPiece } from './batch-entries.ts'
import type { BatchLedger } from './batch-ledger.ts'
import type { HeldBatch } from './batch-memory.ts'
import type { KafkaCluster } from './cluster.ts'
import { explainKafka, isFenced } from './errors.ts'
import type { TransactionalProducer } from './producer.ts'
import { type Compression, RecordBatch } from './record-batch.ts'
import { TransactionRecords, type WrittenBatch } from './send.ts'
import { Together } from './together.ts'
import { inTurn } from './turns.ts'

export interface TransactionOptions {
  readonly cluster: KafkaCluster
  readonly producer: TransactionalProducer
  readonly ledger: BatchLedger
  /** Id of the loader, for the entries. */
  readonly loader: string
  readonly topic: string
  readonly compression: Compression
  readonly maxMessageBytes: number
  /** How long the brokers wait for the end of a transaction, in milliseconds. */
  readonly timeoutMs: number
  /** Id of the cluster, when topics are there. */
  readonly prepared: () => Promise<string>
}

export interface SentBatch extends WrittenBatch {
  /** That the engine has written. */
  readonly rows: number
}

type Outcome = PromiseSettledResult<HeldBatch | undefined>

/** Partitions that were added to the topic are used after so long at the latest. */
const LEADERS_MS = 30_000

export class BatchTransactions {
  readonly #options: TransactionOptions
  readonly #buffers = new PieceBuffers()
  readonly #waiting = new Together<SentBatch, HeldBatch | undefined>((all) => this.#sendTogether(all))
  /** What this process, or one before it, has begun may or may not be there: the ledger is not asked before that is decided. */
  #undecided = true
  /** When the leaders of the partitions were asked for. */
  #foundMs = Number.NEGATIVE_INFINITY

  constructor(options: TransactionOptions) {
    this.#options = options
  }

  /** What the topic is known to have of the batch. A look that may come too early: send() looks again. */
  async find(batch: WrittenBatch['batch'], signal: AbortSignal): Promise<HeldBatch | undefined> {
    const { ledger } = this.#options
    if (!this.#undecided) return ledger.find(batch.token)
    return this.decided(this.#doing([batch]), async () => ledger.find(batch.token), [signal])
  }

  /** Resolves to what the topic had of the batch already; undefined: it was sent, and is there for good. */
  send(batch: SentBatch): Promise<HeldBatch | undefined> {
    return this.#waiting.add(batch)
  }

  /**
   * `work` alone in this process, when all that was begun before is decided. `fresh`: the ledger was read just now; `anew`: it must be.
   * After an abort whatever waits for a broker ends at once. Rejects with an AdflowError about what was being done.
   */
  async decided<T>(
    doing: string,
    work: (fresh: boolean) => Promise<T>,
    signals: readonly AbortSignal[] = [],
    anew = false,
  ): Promise<T> {
    const { cluster } = this.#options
    const abort = () => cluster.disconnect()
    for (const signal of signals) signal.addEventListener('abort', abort, { once: true })
    try {
      return await this.#inTurn(work, signals, anew)
    } catch (error) {
      throw explainKafka(error, doing)
    } finally {
      for (const signal of signals) signal.removeEventListener('abort', abort)
    }
  }

  async #inTurn<T>(work: (fresh: boolean) => Promise<T>, signals: readonly AbortSignal[], anew: boolean): Promise<T> {
    const { ledger, prepared, producer } = this.#options
    return inTurn(`${await prepared()}/${producer.id}`, this, async (mine) => {
      for (const signal of signals) signal.throwIfAborted()
      const fresh = anew || this.#undecided || !mine
      if (fresh) {
        this.#undecided = true
        await producer.init()
        await ledger.readOn()
        this.#undecided = false
      }
      return work(fresh)
    })
  }

  /** Where one of them is refused for what it holds, each goes by itself. */
  async #sendTogether(all: readonly SentBatch[]): Promise<readonly Outcome[]> {
    const outcomes = await this.#settled(all)
    if (all.length === 1 || !outcomes.some((one) => one.status === 'rejected' && isRefused(one.reason))) return outcomes
    const alone: Outcome[] = []
    for (const one of all) alone.push(...(await this.#settled([one])))
    return alone
  }

  async #settled(all: readonly SentBatch[]): Promise<readonly Outcome[]> {
    const signals = all.map(({ signal }) => signal)
    try {
      const doing = this.#doing(all.map(({ batch }) => batch))
      const found = await this.decided(doing, () => this.#sendNew(all), signals)
      return found.map((value) => ({ status: 'fulfilled', value }))
    } catch (reason) {
      return all.map(() => ({ status: 'rejected', reason }))
    }
  }

  /** What the topic has of them already; of the others it has everything by then. */
  async #sendNew(all: readonly SentBatch[]): Promise<(HeldBatch | undefined)[]> {
    const { ledger } = this.#options
    const news = new Map<string, SentBatch>()
    for (const own of all) {
      if (ledger.find(own.batch.token) !== undefined) continue
      const folded = ledger.memory.foldedAt(own.batch)
      if (folded !== undefined) throw behind(own.batch, folded, this.#options.topic)
      news.set(own.batch.token, own)
    }
    if (news.size > 0) await this.#commit([...news.values()])
    return all.map((own) => (news.get(own.batch.token) === own ? undefined : ledger.find(own.batch.token)))
  }

  /** One transaction: the records, and with the last of them the entries, and what is folded of older ones. */
  async #commit(all: readonly SentBatch[]): Promise<void> {
    const { cluster, compression, ledger, loader, maxMessageBytes, producer, timeoutMs, topic } = this.#options
    const began = performance.now()
    const fold = ledger.memory.fold()
    try {
      await this.#findLeaders()
      const partitions = cluster.leaders(topic).length
      const records = new TransactionRecords(producer, {
        ...{ topic, partitions, compression, maxMessageBytes, buffers: this.#buffers },
      })
      const entries = new RecordBatch()
      for (const own of all) {
        const sent = await records.add(own)
        if (sent !== own.rows) throw notAll(own, sent)
        entries.add(ledger.record(own.batch, loader, own.rows))
      }
      // Until this transaction is committed all of the entries count, and what they are folded into does not.
      for (const record of fold === undefined ? [] : ledger.foldRecords(fold)) entries.add(record)
      await records.finish({ topic: ledger.topic, batches: new Map([[0, entries]]), compression: 'none' })
      for (const { signal } of all) signal.throwIfAborted()
      await producer.end(true)
    } catch (error) {
      this.#undecided = true
      this.#foundMs = Number.NEGATIVE_INFINITY
      if (isFenced(error)) throw fenced(topic, error, performance.now() - began > timeoutMs)
      await producer.abandon()
      throw error
    }
    for (const { batch, rows } of all) ledger.remember(batch, loader, rows)
    if (fold !== undefined) ledger.memory.apply(fold)
  }

  /** Who leads the partitions, and how many there are. */
  async #findLeaders(): Promise<void> {
    if (performance.now() - this.#foundMs < LEADERS_MS) return
    const { cluster, ledger, topic } = this.#options
    await cluster.metadata([topic, ledger.topic])
    this.#foundMs = performance.now()
  }

  #doing([first, ...others]: readonly WrittenBatch['batch'][]): string {
    const more = others.length === 0 ? '' : ` and ${others.length} more`
    return `write batch ${first?.token.slice(0, 12)}${more} to ${this.#options.topic}`
  }
}

function isRefused(error: unknown): boolean {
  return error instanceof AdflowError && error.code === 'STORE_MISMATCH'
}

function behind(
  { token, source, range }: WrittenBatch['batch'],
  { from, to }: FoldedPiece,
  topic: string,
): AdflowError {
  return new AdflowError(
    'STORE_MISMATCH',
    `batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) reaches back into ${from}–${to}, which ${topic} has: it knows that as a whole, and no longer which batches it was made of (\`remember_batches\`)`,
    {
      hint: 'go on behind it: `adflow recover JOB --force`; or load it once more: `adflow state rewind JOB … --reload`. Nothing was written',
    },
  )
}

function notAll({ file, rows }: SentBatch, sent: number): AdflowError {
  return new AdflowError('STORE_MISMATCH', `${sent} of ${rows} rows of the batch were read back from ${file}`, {
    hint: 'nothing of the batch can be read; is the disk of the work folder whole?',
  })
}

function fenced(topic: string, cause: unknown, late: boolean): AdflowError {
  if (late)
    return new AdflowError('STORE_UNAVAILABLE', `a batch for ${topic} was not sent within \`transaction_timeout\``, {
      cause,
      hint: 'raise `transaction_timeout`, or lower `resources.chunk`; nothing of the batch can be read',
    })
  return new AdflowError(
    'STORE_DENIED',
    `another process has taken over the transactions of this job into ${topic}: this one is fenced off`,
    { cause, hint: 'run a job in one place at a time; nothing of the batch can be read' },
  )
}
