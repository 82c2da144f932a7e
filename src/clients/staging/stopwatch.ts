/** A limit of time for work of which only some counts: not what it waits for others. */
export class Stopwatch {
  readonly #controller = new AbortController()
  #leftMs: number
  #sinceMs: number | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(limitMs: number) {
    this.#leftMs = limitMs
  }

  /** Aborted when the time is over. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  start(): void {
    if (this.#sinceMs !== undefined) return
    this.#sinceMs = performance.now()
    this.#timer = setTimeout(() => this.#controller.abort(), Math.max(0, this.#leftMs))
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
