/**
 * Watches a source of a run that goes on for ever: it has records to be read, and gives none. Such a thing is a client that hangs, and that
 * will not mend itself: its connections are made anew, and when that does not help the run ends, to be started again.
 */
import { AdflowError } from '../core/errors.ts'

export interface StallOptions {
  readonly source: string
  /** Longest time in which records are waiting and none comes. */
  readonly afterMs: number
  /** There is a reason that was told, or one on our side. */
  readonly excused: () => boolean
  /** Makes its connections anew. */
  readonly renew: () => void
  readonly fail: (error: AdflowError) => void
  readonly now?: () => number
}

export class StallWatch {
  readonly #options: StallOptions
  readonly #now: () => number
  /** Undefined until the source tells for the first time how much there is: others are not watched. */
  #waiting: number | undefined
  #toldMs = 0
  #progressMs: number
  #renewed = false

  constructor(options: StallOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    this.#progressMs = this.#now()
  }

  /** So many records are there to be read. */
  behind(records: number): void {
    this.#waiting = records
    this.#toldMs = this.#now()
    if (records === 0) this.progressed()
  }

  /** Bytes have come, or a batch is through. */
  progressed(): void {
    this.#progressMs = this.#now()
    this.#renewed = false
  }

  /** Called from time to time. */
  look(): void {
    const { afterMs, excused, fail, renew, source } = this.#options
    const now = this.#now()
    if (this.#waiting === undefined) return
    if (excused()) this.#progressMs = now
    if (now - this.#progressMs < afterMs) return
    const found =
      now - this.#toldMs < afterMs
        ? `${source} has ${this.#waiting} records to be read, and has given none for ${afterMs / 1000} s`
        : `${source} has not told for ${afterMs / 1000} s what there is to be read`
    if (!this.#renewed) {
      this.#renewed = true
      this.#progressMs = now
      renew()
      return
    }
    fail(
      new AdflowError('SOURCE_STALLED', `${found}, though its connections were made anew`, {
        hint: 'start the job again; `stream.stalled_after` says how long it waits. Nothing was acknowledged that is not loaded',
      }),
    )
  }
}
