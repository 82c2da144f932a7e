/** Takes requests for one lane: each key once, as much as may wait, and a journal that is opened anew where it has failed. */

import { Journal, type JournalOptions } from '../clients/push/journal.ts'
import type { PushOptions } from '../clients/push/options.ts'
import { AdflowError } from '../core/errors.ts'
import { later, type Receipt, Refusal } from './answer.ts'
import type { SplitBody } from './records.ts'

const FILE_BYTES = 64 << 20
/** Of what may wait a file is at most this part: files are removed whole. */
const FILES = 8
const RETRY_MS = 1000
/** Longest that is asked of a client before it comes again where only a run makes room. */
const FULL_MS = 10_000

export interface PushedBody extends SplitBody {
  readonly key: Buffer | undefined
  readonly digest: Buffer
}

interface UnderWay {
  readonly digest: Buffer
  readonly receipt: Promise<Receipt>
}

export class LaneIntake {
  readonly #folder: string
  readonly #options: PushOptions
  /** Key in hex → the request that has it now. */
  readonly #underWay = new Map<string, UnderWay>()
  /** Only the holder of the source's lock may write: it has said so by open(), and ends it by close(). */
  #held = false
  #journal: Journal | undefined
  #opening: Promise<void> | undefined
  #failedAtMs = Number.NEGATIVE_INFINITY
  #failure: unknown

  constructor(folder: string, options: PushOptions) {
    this.#folder = folder
    this.#options = options
  }

  /** Why nothing can be taken now. */
  get failure(): unknown {
    return this.#journal === undefined ? this.#failure : this.#journal.failure
  }

  get isOpen(): boolean {
    return this.#journal !== undefined
  }

  /** Bytes that were accepted and not removed yet. */
  get bytes(): number {
    return this.#journal?.bytes ?? 0
  }

  /** Only for the holder of the source's lock. @throws AdflowError STATE_DAMAGED, LOCAL_IO, DISK_FULL */
  async open(): Promise<void> {
    this.#held = true
    await this.#open()
  }

  async #open(): Promise<void> {
    this.#opening ??= this.#reopen().finally(() => {
      this.#opening = undefined
    })
    await this.#opening
  }

  /** Resolved: durable, by this request or by an earlier one. @throws Refusal 422, 429, 503 */
  async take(body: PushedBody): Promise<Receipt> {
    const { key, digest } = body
    if (key === undefined) return this.#append(body)
    const name = key.toString('hex')
    const underWay = this.#underWay.get(name)
    if (underWay !== undefined) {
      requireSame(underWay.digest, digest)
      return { ...(await underWay.receipt), replayed: true }
    }
    const receipt = this.#takeOnce(key, body)
    this.#underWay.set(name, { digest, receipt })
    try {
      return await receipt
    } finally {
      this.#underWay.delete(name)
    }
  }

  /** Removes what has been loaded. */
  async tidy(): Promise<void> {
    if (this.#journal?.failure === undefined) await this.#journal?.tidy()
  }

  async close(): Promise<void> {
    this.#held = false
    await this.#opening?.catch(() => undefined) // told to whoever asked for it
    const journal = this.#journal
    this.#journal = undefined
    await journal?.close()
  }

  async #takeOnce(key: Buffer, body: PushedBody): Promise<Receipt> {
    const journal = await this.#ready()
    const known = journal.keys.find(key, Date.now())
    if (known !== undefined) {
      requireSame(known.digest, body.digest)
      return { ...known, replayed: true }
    }
    const { max_keys } = this.#options.idempotency
    if (journal.keys.size + this.#underWay.size > max_keys)
      throw later(429, 'too_many_keys', `${max_keys} keys are known within the window`, this.#untilKeyEnds(journal))
    return this.#append(body)
  }

  async #append({ payload, records, key, digest }: PushedBody): Promise<Receipt> {
    const journal = await this.#ready()
    const { max_pending } = this.#options
    if (journal.bytes + payload.length > max_pending)
      throw later(429, 'full', `${max_pending} bytes wait to be loaded: run the job`, FULL_MS)
    try {
      return { ...(await journal.append({ payload, records, key, digest })), replayed: false }
    } catch (error) {
      this.#failure = error
      throw unavailable()
    }
  }

  async #ready(): Promise<Journal> {
    if (this.#journal !== undefined && this.#journal.failure === undefined) return this.#journal
    if (!this.#held) throw unavailable()
    try {
      await this.#open()
    } catch {
      throw unavailable() // the log has why
    }
    if (this.#journal === undefined) throw unavailable()
    return this.#journal
  }

  async #reopen(): Promise<void> {
    const nowMs = performance.now()
    if (nowMs - this.#failedAtMs < RETRY_MS) throw this.#failure
    const { max_pending, idempotency } = this.#options
    const options: JournalOptions = {
      fileBytes: Math.min(FILE_BYTES, Math.max(1, Math.floor(max_pending / FILES))),
      windowMs: idempotency.window,
    }
    try {
      await this.#journal?.close()
      this.#journal = undefined
      this.#journal = await Journal.open(this.#folder, options)
      this.#failure = undefined
    } catch (error) {
      this.#failedAtMs = nowMs
      this.#failure = error
      throw error
    }
  }

  #untilKeyEnds({ keys }: Journal): number {
    return Math.min(60_000, (keys.oldestEndsMs ?? 0) - Date.now())
  }
}

function requireSame(before: Buffer, now: Buffer): void {
  if (before.equals(now)) return
  throw new Refusal(422, 'key_reused', 'this Idempotency-Key was used for another body: nothing of this one was taken')
}

/** What was sent may be there: with the same key it is stored once. */
function unavailable(): Refusal {
  return later(
    503,
    'unavailable',
    'nothing can be stored now: send this again, with the same Idempotency-Key',
    RETRY_MS,
  )
}

/** For the log: what the disk or the journal said. */
export function reasonOf(error: unknown): string {
  return error instanceof AdflowError && error.hint !== undefined ? `${error.message}; ${error.hint}` : String(error)
}
