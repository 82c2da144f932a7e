/** How much may be staged of a source: whoever fetches waits until what is there has been loaded, and fails where that cannot help. */
import { AdflowError } from '../../core/errors.ts'
import { sizeText } from '../../core/job/units.ts'

export class Room {
  readonly #maxBytes: number
  readonly #source: string
  /** Lane → bytes that are staged, or being written, and not loaded yet. */
  readonly #used = new Map<string, number>()
  /** Segments not read yet, and chunks on their way: each will make room. */
  #pending = 0
  #changed = Promise.withResolvers<void>()

  constructor(source: string, maxBytes: number) {
    this.#source = source
    this.#maxBytes = maxBytes
  }

  /** Is told how much there is whenever that changes. */
  listener: ((bytes: number) => void) | undefined

  set(lane: string, bytes: number): void {
    this.#used.set(lane, bytes)
    this.listener?.(this.#sum())
    this.#tell()
  }

  expect(count: number): void {
    this.#pending += count
    this.#tell()
  }

  has(bytes: number): boolean {
    return this.#sum() + bytes <= this.#maxBytes
  }

  /** Resolves when so many bytes more may be written. @throws AdflowError STAGE_FULL */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    while (!this.has(bytes)) {
      signal.throwIfAborted()
      if (this.#pending === 0)
        throw new AdflowError(
          'STAGE_FULL',
          `${this.#source} has ${sizeText(this.#sum())} staged that cannot be loaded, and ${sizeText(this.#maxBytes)} may be`,
          { hint: 'raise `staging.max_bytes`, or ask the source for smaller pages; whole pages are kept' },
        )
      await this.change(signal)
    }
  }

  /** The next time something is read, loaded or given up. */
  async change(signal: AbortSignal): Promise<void> {
    const { promise: stopped, reject } = Promise.withResolvers<never>()
    const stop = () => reject(signal.reason)
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    try {
      await Promise.race([this.#changed.promise, stopped])
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  #sum(): number {
    return [...this.#used.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  #tell(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }
}
