/** How many batches of a store that streams chunks are encoded at the same time, and on which threads of the engine. */
import type { Job } from '../core/job/job.ts'
import type { Engine } from '../engine/session.ts'

/** Threads that the engine can use on one chunk. More batches at once would only share them, and be ready at the same late time:
 *  one after the other, each is on its way to the store while the next one is encoded. */
const CHUNK_THREADS = 2

/** Where another batch can be on its way to the store meanwhile, each thread may have a batch of its own: none waits for what another has not
 *  finished. */
export function encodersOf({ threads, inFlight }: Pick<Job['resources'], 'threads' | 'inFlight'>): number {
  return Math.min(threads, Math.max(inFlight - 1, Math.ceil(threads / CHUNK_THREADS)))
}

export class Encoders {
  readonly #engine: Engine
  readonly #count: number
  #underWay = 0
  #shared = false

  constructor(engine: Engine, resources: Job['resources']) {
    this.#engine = engine
    this.#count = encodersOf(resources)
  }

  async with(work: () => Promise<void>): Promise<void> {
    this.#underWay += 1
    try {
      await work()
    } finally {
      this.#underWay -= 1
    }
  }

  /** From the first time that several can be encoded at once: a single one has all threads. */
  async share(): Promise<void> {
    if (this.#shared || this.#count === 1 || this.#underWay === 1) return
    this.#shared = true
    await this.#engine.shareAmong(this.#count)
  }
}
