/** How many requests are under way, and how many begin in a second: for each host, whichever sources of a run ask it. */
import { setTimeout as delay } from 'node:timers/promises'
import pLimit, { type LimitFunction } from 'p-limit'
import type { HostGate, HostLimits } from '../../core/source-watch.ts'

interface Host {
  readonly limit: LimitFunction
  intervalMs: number
  /** When the next request may begin, in milliseconds of performance.now(). */
  nextMs: number
}

export class HostGates implements HostGate {
  readonly #hosts = new Map<string, Host>()

  async pass<T>(
    name: string,
    { concurrency, perSecond }: HostLimits,
    signal: AbortSignal,
    request: () => Promise<T>,
  ): Promise<T> {
    const host = this.#hosts.get(name) ?? { limit: pLimit(concurrency), intervalMs: 0, nextMs: 0 }
    this.#hosts.set(name, host)
    // The strictest of all that have asked so far holds for everybody: the host counts requests, not sources.
    if (concurrency < host.limit.concurrency) host.limit.concurrency = concurrency
    if (perSecond !== undefined) host.intervalMs = Math.max(host.intervalMs, 1000 / perSecond)
    return host.limit(async () => {
      signal.throwIfAborted()
      const now = performance.now()
      const at = Math.max(now, host.nextMs)
      host.nextMs = at + host.intervalMs
      if (at > now) await delay(at - now, undefined, { signal })
      return request()
    })
  }
}
