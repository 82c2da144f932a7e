/**
 * One loader of a run, with its spool. While the store keeps up, batches go straight to it; once it fails, this and every
 * later batch of the run waits in the spool, in order, and the others are not held up.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pLimit, { type LimitFunction } from 'p-limit'
import pRetry from 'p-retry'
import type { BatchInfo, Column, LoadBatch, Loader, Receipt } from '../core/contracts.ts'
import { mayGoOn } from '../core/durable-copy.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobLoader } from '../core/job/job.ts'
import { Turnstile } from '../core/turnstile.ts'
import { encode } from '../engine/encode.ts'
import type { Session } from '../engine/session.ts'
import type { StoreOutcome } from '../lineage/events.ts'
import { isSourceFault } from './broken-lanes.ts'
import { encodersOf } from './encoders.ts'
import type { OwedBatch, Spool } from './spool.ts'
import { unlessRefused } from './unless-refused.ts'

/** A batch for one store. */
export interface Delivery extends BatchInfo {
  readonly sequence: string
  readonly origin: string
  /** Token of the batch in the ledger; `token` is that of this output. */
  readonly batch: string
  readonly columns: readonly Column[]
  readonly relation: string
  /** See LoadBatch. */
  readonly empty?: true
  /** See LoadBatch. */
  readonly made?: () => string
  /** Of a whole chunk, see Chunk.counted: until it resolves `digest` throws. */
  readonly counted?: (anyhow?: boolean) => Promise<boolean>
  /** Called when the engine has written the batch, and the store has not published it yet. */
  readonly encoded?: () => unknown
  /** Rows that the relation must give; set where it is evaluated by the store alone. Asked after counted(). */
  readonly expected?: () => number
  /** Throws where the bytes behind the relation have changed while the store read them. */
  readonly verify?: () => Promise<void>
}

export interface StoreOptions {
  readonly config: JobLoader
  readonly loader: Loader
  readonly spool: Spool
  readonly job: Job
  readonly signal: AbortSignal
  /** Longest time of one write, in milliseconds; set where the run goes on for ever: what is not taken by then is owed at once, and
   *  recover() tries again. */
  readonly timeoutMs?: number | undefined
  /** Called after each batch that is worked off, before it leaves the spool. */
  readonly paid: (loader: string, batch: OwedBatch, receipt: Receipt) => Promise<void>
}

/** How often a batch that waits for room in the spool looks for it. */
const ROOM_MS = 250

export class Store {
  readonly id: string
  readonly input: string
  /** What is owed to it does not fail a run. */
  readonly optional: boolean
  readonly loader: Loader
  readonly spool: Spool
  /** Why the store is not written to any more in this run. */
  down: AdflowError | undefined
  loaded = 0
  /** A batch waits for room in the spool: the sources are read no further until the store has taken some of it. */
  full = false
  readonly turns = new Turnstile()
  readonly #encoding: LimitFunction | undefined
  readonly #job: Job
  readonly #signal: AbortSignal
  readonly #timeoutMs: number | undefined
  readonly #paid: StoreOptions['paid']
  /** What is owed is paid by one at a time: a run that waits for room in the spool, or one that looks after the store. */
  readonly #payments = new Turnstile()
  /** undefined: it cannot be opened in this run at all, because the engine has no access to it. */
  #columns: readonly Column[] | undefined
  #opened = false

  constructor({ config, loader, spool, job, signal, timeoutMs, paid }: StoreOptions) {
    this.id = config.id
    this.input = config.input ?? 'main'
    this.optional = config.optional
    this.loader = loader
    this.spool = spool
    this.#encoding = loader.streams === 'chunks' ? pLimit(encodersOf(job.resources)) : undefined
    this.#job = job
    this.#signal = signal
    this.#timeoutMs = timeoutMs
    this.#paid = paid
  }

  /** Batches wait for their turn only where the store needs the order of the lane. */
  get ordered(): boolean {
    return this.loader.order === 'lane'
  }

  async open(session: Session, columns: readonly Column[]): Promise<void> {
    this.#columns = columns
    const open = () => this.loader.open({ engine: session, columns })
    try {
      await (this.#timeoutMs === undefined ? this.#retrying(open) : open())
      this.#opened = true
    } catch (error) {
      this.down = this.#fault(error)
    }
  }

  /** Works off what is owed. Rejects for what is no fault of the store: its ledger entry or the spool cannot be written. */
  async pay(session: Session): Promise<void> {
    const payment = this.#payments.take()
    await payment.ready
    try {
      for (const batch of this.spool.owed)
        if (this.down === undefined && !this.#signal.aborted) await this.#payOne(batch, session, this.#write)
    } finally {
      payment.done()
    }
  }

  /** Tries again where the store is down or something is owed to it, while batches go on. A store that needs the order of the lane
   *  gets the last of it in a turn of its own, in which no batch can come between; until then all wait in the spool. Rejects as
   *  pay() does. */
  async recover(session: Session): Promise<void> {
    if (this.down === undefined && this.spool.size === 0) return
    if (!(await this.#reopen(session)) || !(await this.#settle(session)) || this.down === undefined) return
    const turn = this.turns.take()
    try {
      await turn.ready
      if (await this.#settle(session)) this.down = undefined
    } finally {
      turn.done()
    }
  }

  async #reopen(session: Session): Promise<boolean> {
    if (this.#opened || this.#columns === undefined) return this.#opened
    await this.open(session, this.#columns)
    return this.#opened
  }

  /** Pays what is owed by now. true: the store has taken all of it. */
  async #settle(session: Session): Promise<boolean> {
    const payment = this.#payments.take()
    await payment.ready
    try {
      const { owed } = this.spool
      if (owed.length === 0 && !this.ordered) this.down = undefined
      for (const batch of owed) {
        if (this.#signal.aborted || !(await this.#payOne(batch, session, this.#writeOnce))) return false
        // The next batches may go there at once: in which order they come does not matter to it.
        if (!this.ordered) this.down = undefined
      }
      return true
    } finally {
      payment.done()
    }
  }

  /** false: the store has not taken it, and is down. */
  async #payOne(batch: OwedBatch, session: Session, write: Write): Promise<boolean> {
    mayGoOn(this.spool.folder)
    let receipt: Receipt
    try {
      receipt = await write({ ...batch, relation: this.spool.relation(batch) }, session)
    } catch (error) {
      this.down = this.#fault(error)
      return false
    }
    this.loaded += receipt.repeated ? 0 : receipt.rows
    await this.#paid(this.id, batch, receipt)
    await this.spool.remove(batch)
    return true
  }

  /** One attempt. The outcome, or the error where the store may take the batch on a later attempt. Rejects for faults of the
   *  source: no attempt can mend these, and the spool must not take them over. */
  async attempt(delivery: Delivery, session: Session): Promise<StoreOutcome | AdflowError> {
    try {
      // A store that has the token compares digests before it reads anything.
      if (delivery.counted !== undefined && (await this.held(delivery, session)) !== undefined)
        await delivery.counted(true)
      return this.#outcome(await this.#writeOnce(delivery, session))
    } catch (error) {
      return this.#storeError(error, delivery, session)
    }
  }

  /** Attempts with pauses, then the spool. A run that goes on for ever holds nothing up for a store: see recover(). */
  async persist(delivery: Delivery, session: Session, first: AdflowError): Promise<StoreOutcome> {
    const again = this.#timeoutMs === undefined && this.#job.retry.attempts > 1
    if (first.retryable && this.down === undefined && again) {
      try {
        return this.#outcome(await this.#write(delivery, session))
      } catch (error) {
        this.down = await this.#storeError(error, delivery, session)
      }
    }
    this.down ??= first
    return this.owe(delivery, session)
  }

  async owe(delivery: Delivery, session: Session): Promise<StoreOutcome> {
    while (this.spool.bytes >= this.#job.spool.maxBytes) {
      this.full = true
      await this.#whenFull(session).finally(() => {
        this.full = false
      })
      if (this.down !== undefined || this.spool.size > 0) continue
      // All is paid: a batch in the spool now would come behind the later ones that the store takes.
      const outcome = await this.attempt(delivery, session)
      if (!(outcome instanceof AdflowError)) return outcome
      this.down = outcome
    }
    if ((await delivery.counted?.()) === false) throw notWhole()
    const { relation, expected: _, counted: __, made: ___, verify, ...info } = delivery
    const owed = await this.spool.put(info, relation, session, verify)
    return { rows: owed.rows, status: 'owed', outputs: [] }
  }

  /** Rows that the store has of the batch from before this run; undefined where it has nothing, or cannot say. */
  async held({ token }: Pick<Delivery, 'token'>, session: Session): Promise<number | undefined> {
    if (this.down !== undefined) return undefined
    const receipt = await this.loader.probe?.(token, { engine: session }).catch(() => undefined) // the write will tell
    return receipt?.rows
  }

  async #storeError(error: unknown, delivery: Delivery, session: Session): Promise<AdflowError> {
    const found = this.#fault(error)
    // The store has the token and still refuses: it holds other bytes of this range.
    const other = found.code === 'STORE_MISMATCH' && (await this.held(delivery, session)) !== undefined
    const { code, message, hint } = found
    if (other) throw new AdflowError(code, message, { cause: error, details: { held: true }, ...(hint && { hint }) })
    if (isSourceFault(found)) throw found
    return found
  }

  async #whenFull(session: Session): Promise<void> {
    const full = new AdflowError(
      'SPOOL_FULL',
      `the spool of ${this.id} holds ${this.spool.bytes} bytes and spool.max_bytes is ${this.#job.spool.maxBytes}: ${this.down?.message ?? ''}`,
      { hint: 'mend the store, or raise spool.max_bytes; nothing was acknowledged' },
    )
    if (this.#job.spool.whenFull === 'fail' || this.#signal.aborted) throw full
    // Who looks after the store of a run without an end pays it beside the batches.
    const looked = this.#timeoutMs !== undefined
    await sleep(looked ? ROOM_MS : this.#job.retry.maxMs, undefined, { signal: this.#signal }).catch(() => {
      throw full
    })
    if (looked) return
    this.down = undefined
    await this.pay(session)
  }

  readonly #write: Write = (delivery, session) => this.#retrying(() => this.#writeOnce(delivery, session))

  readonly #writeOnce: Write = async (delivery, session) => {
    const limit = this.#timeoutMs
    // What is under way when the run is told to stop is finished: there is a limit to it anyway.
    const signal = limit === undefined ? this.#signal : AbortSignal.timeout(limit)
    try {
      return await this.loader.write(this.#batch(delivery, session), { signal })
    } catch (error) {
      if (limit === undefined || !signal.aborted) throw error
      throw new AdflowError('STORE_UNAVAILABLE', `${this.id} has not taken a batch within ${limit / 1000} s`, {
        cause: error,
        hint: 'stream.store_timeout in the job file says how long a store is waited for',
      })
    }
  }

  async #retrying<T>(work: () => Promise<T>): Promise<T> {
    const { attempts, initialMs, maxMs } = this.#job.retry
    let done: { readonly result: T } | undefined
    const once = async () => {
      done = { result: await work() }
      return done
    }
    const retrying = pRetry(once, {
      retries: attempts - 1,
      minTimeout: initialMs,
      maxTimeout: maxMs,
      factor: 2,
      randomize: true,
      signal: this.#signal,
      shouldRetry: ({ error }) => error instanceof AdflowError && error.retryable,
    })
    // What the store has taken it has, also where the signal came meanwhile.
    const { result } = await retrying.catch((error: unknown) => done ?? Promise.reject(error))
    return result
  }

  /** Of an attempt that the signal has cut short, or kept from beginning, nothing can be said about the store. */
  #fault(error: unknown): AdflowError {
    const found = asStoreError(error, this.id)
    const cutShort = this.#timeoutMs === undefined && this.#signal.aborted && found.code === 'STORE_UNAVAILABLE'
    if (!cutShort) return found
    return new AdflowError('INTERRUPTED', `the run was told to stop before ${this.id} had answered`, { cause: error })
  }

  #outcome(receipt: Receipt): StoreOutcome {
    if (!receipt.repeated) this.loaded += receipt.rows
    const { rows, outputs, content } = receipt
    const status = receipt.repeated ? 'repeated' : 'loaded'
    return { rows, status, outputs, ...(content === undefined ? {} : { content }) }
  }

  #batch(delivery: Delivery, session: Session): LoadBatch {
    const { job, source, range, token, clock, columns, relation, empty, made, counted, expected, encoded } = delivery
    return {
      job,
      source,
      range,
      token,
      clock,
      columns,
      relation,
      ...(empty === undefined ? {} : { empty }),
      ...(made === undefined ? {} : { made }),
      get digest() {
        return delivery.digest
      },
      engine: session,
      encode: async (format, options) => {
        const counting = counted?.()
        const write = () => unlessRefused(counting, session, () => encode(session, relation, format, options))
        const rows = await (this.#encoding?.(write) ?? write())
        encoded?.()
        if ((await counting) === false) throw notWhole()
        const missing = (expected?.() ?? rows) - rows
        if (missing !== 0) throw new AdflowError('ENGINE_FAILED', `${missing} rows of the batch did not pass`)
        await delivery.verify?.()
        return rows
      },
    }
  }
}

type Write = (delivery: Delivery, session: Session) => Promise<Receipt>

/** The same finding as of a record that is not clean: the source is cut instead. */
function notWhole(): AdflowError {
  return new AdflowError('ENGINE_FAILED', 'the source has records that must not reach the engine')
}

function asStoreError(error: unknown, id: string): AdflowError {
  if (error instanceof AdflowError) return error
  return new AdflowError(
    'STORE_UNAVAILABLE',
    `cannot write to ${id}: ${error instanceof Error ? error.message : String(error)}`,
    {
      cause: error,
    },
  )
}
