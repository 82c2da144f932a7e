/** Where the time of a run goes: how long each batch was in each phase. A few counters for each, however long the run. */

/** Of one phase, over all batches; milliseconds. The percentiles are exact to a tenth of themselves. */
export interface PhaseTiming {
  batches: number
  mean_ms: number
  p50_ms: number
  p99_ms: number
  max_ms: number
}

/** Buckets grow by a tenth each, from a hundredth of a millisecond to days. */
const GROWTH = Math.log(1.1)
const SMALLEST_MS = 0.01
const BUCKETS = 256

export class Phases {
  readonly #phases = new Map<string, Phase>()

  /** Also where the work fails. */
  async measure<T>(phase: string, work: () => Promise<T>): Promise<T> {
    const began = performance.now()
    try {
      return await work()
    } finally {
      this.add(phase, performance.now() - began)
    }
  }

  add(phase: string, ms: number): void {
    const found = this.#phases.get(phase) ?? new Phase()
    this.#phases.set(phase, found)
    found.add(ms)
  }

  /** In the order in which they were first met. */
  timings(): Record<string, PhaseTiming> {
    return Object.fromEntries([...this.#phases].map(([name, phase]) => [name, phase.timing()]))
  }
}

class Phase {
  readonly #counts = new Uint32Array(BUCKETS)
  #batches = 0
  #total = 0
  #longest = 0

  add(ms: number): void {
    const bucket = Math.max(0, Math.ceil(Math.log(ms / SMALLEST_MS) / GROWTH))
    const index = Math.min(BUCKETS - 1, bucket)
    this.#counts[index] = (this.#counts[index] ?? 0) + 1
    this.#batches += 1
    this.#total += ms
    this.#longest = Math.max(this.#longest, ms)
  }

  timing(): PhaseTiming {
    return {
      batches: this.#batches,
      mean_ms: rounded(this.#total / this.#batches),
      p50_ms: this.#percentile(0.5),
      p99_ms: this.#percentile(0.99),
      max_ms: rounded(this.#longest),
    }
  }

  #percentile(share: number): number {
    let left = Math.ceil(this.#batches * share)
    let index = 0
    for (; index < BUCKETS - 1; index += 1) {
      left -= this.#counts[index] ?? 0
      if (left <= 0) break
    }
    return rounded(Math.min(this.#longest, SMALLEST_MS * Math.exp(GROWTH * index)))
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100
}
