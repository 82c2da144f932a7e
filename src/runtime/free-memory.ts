/** When free memory is given back, so that what a process holds follows what it uses, and does not grow with the time that it runs. */
import { setFlagsFromString } from 'node:v8'
import { AdflowError } from '../core/errors.ts'
import type { Engine } from '../engine/session.ts'

/** Pages that are given back must be asked for again, half a second of CPU time for a gigabyte: not more often than that. What is held by a run that ends by itself
 *  is bounded by that as well. */
const EVERY_MS = { forever: 1000, once: 10_000 } as const
/** So many batches leave some 10 MiB of notes of what is gone. */
const FORGET_BATCHES = 500
/** Less than that is what a batch takes and gives anyhow. */
const GROWN_BYTES = 32 * 2 ** 20

/**
 * The part of the heap where objects begin stays as large as starting has made it. V8 doubles it, up to 128 MiB, whenever much of it is alive at
 * one moment, and does not make it smaller in a process that is busy; of a batch hardly anything outlives it. What does is collected when the rest of the
 * heap has half as much more as was alive; V8 waits longer by itself, and a stream would rise by what is alive, again and again.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
  setFlagsFromString('--heap-growing-percent=50')
}

export class FreeMemory {
  readonly #engine: Pick<Engine, 'forgetBlocks' | 'giveBack'>
  readonly #everyMs: number
  readonly #residentBytes: () => number
  #floorBytes: number
  #dueMs: number
  #batches = 0
  #begun: Promise<void> | undefined

  constructor(
    engine: Pick<Engine, 'forgetBlocks' | 'giveBack'>,
    run: 'forever' | 'once',
    residentBytes = () => process.memoryUsage.rss(),
    nowMs = performance.now(),
  ) {
    this.#engine = engine
    this.#everyMs = EVERY_MS[run]
    this.#residentBytes = residentBytes
    this.#floorBytes = residentBytes()
    this.#dueMs = nowMs + this.#everyMs
  }

  /** To be asked after each batch. */
  async look(nowMs = performance.now()): Promise<void> {
    this.#batches += 1
    const forgets = this.#batches % FORGET_BATCHES === 0
    const residentBytes = this.#residentBytes()
    // Others give memory back, too: what they have given counts as free when it is taken again.
    this.#floorBytes = Math.min(this.#floorBytes, residentBytes)
    if (!forgets && (nowMs < this.#dueMs || residentBytes < this.#floorBytes + GROWN_BYTES)) return
    this.#dueMs = nowMs + this.#everyMs
    await this.#giveBack(forgets)
  }

  /** The engine is through with the last batch, and the store publishes it: meanwhile a thread gives back what would make the end of the process longer. */
  begin(): void {
    this.#begun = this.#giveBack(false)
    this.#begun.catch(() => undefined) // told by idle()
  }

  async idle(): Promise<void> {
    await this.#begun
  }

  async #giveBack(forgets: boolean): Promise<void> {
    try {
      await (forgets ? this.#engine.forgetBlocks() : this.#engine.giveBack())
    } catch (error) {
      // All of the limit is in use: there is nothing to give, and the next batch asks again.
      if (!(error instanceof AdflowError) || error.code !== 'OUT_OF_MEMORY') throw error
    }
    this.#floorBytes = this.#residentBytes()
  }
}
