/** How many requests are under way, and how many begin in a second: of one source, for each host. */
import { setTimeout as delay } from 'node:timers/promises'
import pLimit, { type LimitFunction } from 'p-limit'

export class HostGate {
  readonly #concurrency: number
  readonly #intervalMs: number
  readonly #limits = new Map<string, LimitFunction>()
  /** When the next request may begin, in milliseconds of performance.now(). */
  readonly #nextMs = new Map<string, number>()

  constructor(concurrency: number, perSecond: number | undefined) {
    this.#concurrency = concurrency
    this.#intervalMs = perSecond === undefined ? 0 : 1000 / perSecond
  }

  /** Rejects with the signal's reason where it is aborted while the request waits. */
  async pass<T>(host: string, signal: AbortSignal, request: () => Promise<T>): Promise<T> {
    const limit = this.#limits.get(host) ?? pLimit(this.#concurrency)
    this.#limits.set(host, limit)
    return limit(async () => {
      signal.throwIfAborted()
      const now = performance.now()
      const at = Math.max(now, this.#nextMs.get(host) ?? 0)
      this.#nextMs.set(host, at + this.#intervalMs)
      if (at > now) await delay(at - now, undefined, { signal })
      return request()
    })
  }
}
