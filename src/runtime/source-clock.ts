/**
 * How long a run waits for one source. Only silence counts: time in which the run asks for more and nothing comes. So a source with
 * much to give is never cut off for its size, and one that hangs costs its time-out and no more.
 */
import { AdflowError } from '../core/errors.ts'
import { durationText } from '../core/job/units.ts'

/** After so long a source is taken to hang, and does not count among those that are read at the same time. */
const STALLED_MS = 1000
/** For a source to end by itself once it was given up. */
const GRACE_MS = 5000
const LONGEST_TIMER_MS = 2 ** 31 - 1

export interface SourceClockOptions {
  readonly source: string
  readonly silenceMs: number
  /** Of the whole reading; undefined: no limit. */
  readonly limitMs: number | undefined
  /** false: what it has fetched is still to be read when it is given up. */
  readonly replayable: boolean
  stalled(yes: boolean): void
}

export class SourceClock {
  readonly #options: SourceClockOptions
  readonly #givenUp = new AbortController()
  readonly #ended = new AbortController()
  readonly #limit: NodeJS.Timeout | undefined
  #timer: NodeJS.Timeout | undefined
  #asking = false
  #holds = 0
  /** Since when nothing came, in milliseconds of performance.now(). */
  #silentMs = 0
  #stalled = false
  #abandoned = false

  constructor(options: SourceClockOptions) {
    this.#options = options
    const { limitMs, source } = options
    if (limitMs !== undefined)
      this.#limit = setTimeout(() => this.#giveUp(cutOff(source, limitMs)), Math.min(limitMs, LONGEST_TIMER_MS))
  }

  /** See SourceWatch. */
  get givenUp(): AbortSignal {
    return this.#givenUp.signal
  }

  /** Aborted when the source is to end at once: it was given up and has nothing to read on, or does not come to an end. */
  get ended(): AbortSignal {
    return this.#ended.signal
  }

  /** It did not end though it was told to: nobody waits for it any more. */
  get abandoned(): boolean {
    return this.#abandoned
  }

  get silenceMs(): number {
    return this.#options.silenceMs
  }

  moved(): void {
    this.#silentMs = performance.now()
    this.#stall(false)
  }

  async hold<T>(work: () => Promise<T>): Promise<T> {
    this.#holds += 1
    this.#wind()
    try {
      return await work()
    } finally {
      this.#holds -= 1
      this.moved()
      this.#wind()
    }
  }

  /** What the source gives next. Rejects when it was told to end and does not; what comes later goes to `late`. */
  async next<T>(ask: () => Promise<T>, stop: AbortSignal, late: (item: T) => void): Promise<T> {
    this.#asking = true
    this.moved()
    this.#wind()
    const patience = new Patience([stop, this.#ended.signal])
    const coming = ask()
    try {
      const first = await Promise.race([coming.then((item) => ({ item })), patience.over])
      if (first !== undefined) return first.item
      this.#abandoned = true
      coming.then(late, () => undefined) // nobody waits for it any more, and why it failed was told
      throw this.#givenUp.signal.aborted ? this.#givenUp.signal.reason : hangs(this.#options.source)
    } finally {
      patience.end()
      this.#asking = false
      this.moved()
      this.#wind()
    }
  }

  close(): void {
    clearTimeout(this.#limit)
    clearTimeout(this.#timer)
    this.#holds = Number.POSITIVE_INFINITY
    this.#stall(false)
  }

  /** Runs while the source is waited for. What moves meanwhile only moves the time that is looked at when it rings. */
  #wind(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#asking && this.#holds === 0) this.#ring()
  }

  #ring(): void {
    const { silenceMs, source } = this.#options
    const silent = performance.now() - this.#silentMs
    const given = this.#givenUp.signal.aborted
    if (silent >= STALLED_MS) this.#stall(true)
    if (given ? silent >= GRACE_MS : silent >= silenceMs) {
      if (given) this.#ended.abort()
      else this.#giveUp(silence(source, silenceMs))
      return
    }
    const next = [STALLED_MS, given ? GRACE_MS : silenceMs].filter((ms) => ms > silent)
    const rest = Math.min(...next) - silent
    if (Number.isFinite(rest)) this.#timer = setTimeout(() => this.#ring(), Math.min(Math.ceil(rest), LONGEST_TIMER_MS))
  }

  #giveUp(reason: AdflowError): void {
    if (this.#givenUp.signal.aborted) return
    this.#givenUp.abort(reason)
    if (this.#options.replayable) this.#ended.abort()
    this.moved()
    this.#wind()
  }

  #stall(yes: boolean): void {
    if (this.#stalled === yes) return
    this.#stalled = yes
    this.#options.stalled(yes)
  }
}

/** Resolves some time after the first of the signals was aborted. */
class Patience {
  readonly over: Promise<undefined>
  readonly #end = Promise.withResolvers<undefined>()
  readonly #signal: AbortSignal
  #timer: NodeJS.Timeout | undefined

  constructor(signals: readonly AbortSignal[]) {
    this.over = this.#end.promise
    this.#signal = AbortSignal.any([...signals])
    if (this.#signal.aborted) this.#begin()
    else this.#signal.addEventListener('abort', this.#begin, { once: true })
  }

  end(): void {
    clearTimeout(this.#timer)
    this.#signal.removeEventListener('abort', this.#begin)
  }

  readonly #begin = (): void => {
    this.#timer = setTimeout(() => this.#end.resolve(undefined), GRACE_MS)
  }
}

function silence(source: string, ms: number): AdflowError {
  return new AdflowError('SOURCE_TIMEOUT', `${source} gave nothing for ${durationText(ms)}`, {
    hint: 'check that it can be reached (`adflow doctor`); what came is kept, and the next run goes on after it; `give_up_after` of the source allows more',
  })
}

function cutOff(source: string, ms: number): AdflowError {
  return new AdflowError('SOURCE_TIMEOUT', `${source} was not at its end after ${durationText(ms)}`, {
    hint: 'what came is kept, and the next run goes on after it; `time_limit` of the source, or --within, allows more',
  })
}

function hangs(source: string): AdflowError {
  return new AdflowError('SOURCE_TIMEOUT', `${source} did not end when the run was stopped`, {
    hint: 'what came is kept, and the next run goes on after it',
  })
}
