/** One place where a consumer can be handed something: its circuit breaker, and the pause that it has asked for. */
import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhenResult } from 'cockatiel'
import type { Answer } from '../core/consumer.ts'
import type { JobConsumer } from '../core/job/job.ts'

export class Endpoint {
  readonly name: string
  readonly #pauseMs: number
  readonly #breaker
  #openedMs = 0
  #pausedUntilMs = 0

  constructor(name: string, { breaker }: Pick<JobConsumer, 'breaker'>) {
    this.name = name
    this.#pauseMs = breaker.pauseMs
    const fails = handleWhenResult((answer) => (answer as Answer).outcome === 'again')
    this.#breaker = circuitBreaker(fails, {
      halfOpenAfter: breaker.pauseMs,
      breaker: new ConsecutiveBreaker(breaker.failures),
    })
    this.#breaker.onBreak(() => {
      this.#openedMs = Date.now()
    })
  }

  /** The breaker keeps everything from it, but for a probe. */
  get open(): boolean {
    return this.#breaker.state !== CircuitState.Closed
  }

  /** From when on it may be tried; undefined while a probe is on its way. */
  get availableAt(): number | undefined {
    if (this.#breaker.state === CircuitState.HalfOpen) return undefined
    const opensAt = this.#breaker.state === CircuitState.Open ? this.#openedMs + this.#pauseMs : 0
    return Math.max(opensAt, this.#pausedUntilMs)
  }

  /** It wants nothing before; milliseconds since the epoch. */
  pauseUntil(timeMs: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, timeMs)
  }

  /** Only when it is available. `send` may not throw. */
  try(send: () => Promise<Answer>): Promise<Answer> {
    return this.#breaker.execute(send)
  }
}
