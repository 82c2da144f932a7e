/** A limit of time for work of which only some counts: not what it waits for others. */
/** No timer of Node.js is longer; no work here takes so long. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

export class Stopwatch {
  readonly #limitMs: number
  readonly #controller = new AbortController()
  #leftMs: number
  #sinceMs: number | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(limitMs: number) {
    this.#limitMs = limitMs
    this.#leftMs = limitMs
  }

  /** Aborted when the time is over. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  start(): void {
    if (this.#sinceMs !== undefined) return
    this.#sinceMs = performance.now()
    if (this.#leftMs <= LONGEST_TIMER_MS)
      this.#timer = setTimeout(() => this.#controller.abort(), Math.max(0, this.#leftMs))
  }

  /** All of the time is there again. */
  restart(): void {
    const runs = this.#sinceMs !== undefined
    this.stop()
    this.#leftMs = this.#limitMs
    if (runs) this.start()
  }

  stop(): void {
    if (this.#sinceMs === undefined) return
    clearTimeout(this.#timer)
    this.#leftMs -= performance.now() - this.#sinceMs
    this.#sinceMs = undefined
  }

  /** Work that does not count. */
  async pause<T>(work: () => Promise<T>): Promise<T> {
    this.stop()
    try {
      return await work()
    } finally {
      this.start()
    }
  }
}
