/**
 * Rows on their way to consumers: an immutable Parquet file per batch and output, durable before the checkpoint passes the
 * batch, and deleted when every consumer has had it. The first complete file of a token stays: a batch that comes again
 * after a crash finds it, so the row behind a message's id can never change.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { TokenLog } from '../core/token-log.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { type OwedBatch, Spool } from './spool.ts'
import type { StateDir } from './state-dir.ts'

export interface OutboxFile extends OwedBatch {
  readonly output: string
}

/** Number of a row in its file, from 0: part of the id of its message. */
export const FILE_ROW = '__file_row'

interface Shelf {
  readonly spool: Spool
  /** Tokens that every consumer has had. */
  readonly passed: TokenLog
}

export class Outbox {
  readonly #shelves: ReadonlyMap<string, Shelf>
  readonly #limits: Job['spool']
  readonly #retryMs: number
  #making: Promise<void> | undefined

  private constructor(shelves: ReadonlyMap<string, Shelf>, { spool, retry }: Job) {
    this.#shelves = shelves
    this.#limits = spool
    this.#retryMs = retry.maxMs
  }

  /** undefined where the job distributes nothing. Only for the holder of the job's lock. */
  static async open(state: StateDir, job: Job): Promise<Outbox | undefined> {
    const outputs = [...new Set(job.distribute.map(({ input }) => input))]
    if (outputs.length === 0) return undefined
    const shelves = new Map<string, Shelf>()
    for (const output of outputs) {
      const folder = state.outboxOf(output)
      await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error) => {
        throw localIoError(error, `make the folder ${folder}`)
      })
      const spool = new Spool(folder)
      await spool.open()
      const passed = await TokenLog.open(join(folder, 'passed'))
      for (const file of spool.owed) if (passed.has(file.token)) await spool.remove(file)
      shelves.set(output, { spool, passed })
    }
    return new Outbox(shelves, job)
  }

  get outputs(): readonly string[] {
    return [...this.#shelves.keys()]
  }

  /** Of all outputs, in the order in which the batches were planned. */
  get files(): readonly OutboxFile[] {
    const all = [...this.#shelves].flatMap(([output, { spool }]) => spool.owed.map((file) => ({ ...file, output })))
    return all.sort((a, b) => Number(BigInt(a.sequence) - BigInt(b.sequence)))
  }

  get bytes(): number {
    return [...this.#shelves.values()].reduce((total, { spool }) => total + spool.bytes, 0)
  }

  /** Resolved: on disk. The rows that the file has; undefined where every consumer has had the batch already. */
  async put(
    output: string,
    batch: Omit<OwedBatch, 'rows' | 'bytes'>,
    relation: string,
    session: Session,
  ): Promise<number | undefined> {
    const shelf = this.#shelf(output)
    if (shelf.passed.has(batch.token)) return undefined
    const there = shelf.spool.owed.find(({ token }) => token === batch.token)
    return (there ?? (await shelf.spool.put(batch, relation, session))).rows
  }

  /** Every consumer has had it. The token is noted first, so that a batch that comes again is not handed over anew. */
  async pass(file: OutboxFile): Promise<void> {
    const { spool, passed } = this.#shelf(file.output)
    await passed.add(file.token)
    await spool.remove(file)
  }

  /** SELECT of the rows as they were handed over, with FILE_ROW. */
  rows({ output, ...file }: OutboxFile): string {
    const items = file.columns.map(({ name, type }) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
    const path = literal(this.#shelf(output).spool.file(file))
    return `SELECT ${items.join(', ')}, file_row_number AS ${FILE_ROW} FROM read_parquet(${path}, file_row_number = true)`
  }

  /** Waits until there is room by `spool.max_bytes`; `work` hands over what waits. @throws AdflowError SPOOL_FULL */
  async room(work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    while (this.bytes >= this.#limits.maxBytes) {
      if (this.#limits.whenFull === 'fail' || signal.aborted) throw this.#full()
      this.#making ??= work().finally(() => {
        this.#making = undefined
      })
      await this.#making
      if (this.bytes < this.#limits.maxBytes) return
      await sleep(this.#retryMs, undefined, { signal }).catch(() => {
        throw this.#full()
      })
    }
  }

  async close(): Promise<void> {
    for (const { passed } of this.#shelves.values()) await passed.close()
  }

  #full(): AdflowError {
    return new AdflowError(
      'SPOOL_FULL',
      `what waits for consumers has ${this.bytes} bytes, and spool.max_bytes is ${this.#limits.maxBytes}`,
      { hint: 'mend the consumer that does not take it, or raise spool.max_bytes; nothing was acknowledged' },
    )
  }

  #shelf(output: string): Shelf {
    const shelf = this.#shelves.get(output)
    if (shelf === undefined) throw new AdflowError('UNEXPECTED', `nothing distributes the output ${output}`)
    return shelf
  }
}
