/** Small objects are asked for before they are opened: one request after the other would be waiting for the most part. */
import type { SourceFile } from '../objects/discover.ts'

const SMALL_BYTES = 1 << 20
/** So many objects, and as many times `SMALL_BYTES` at most, are in memory. */
const AHEAD = 16

export class FetchedAhead {
  readonly #mostBytes: number
  readonly #fetch: (file: SourceFile) => Promise<Buffer>
  /** In the order in which they will be opened, as far as that is known. */
  #waiting = new Set<SourceFile>()
  #fetched = new Map<SourceFile, Promise<Buffer>>()

  /** `rangeBytes`: what is larger takes more than one request. */
  constructor(rangeBytes: number, fetch: (file: SourceFile) => Promise<Buffer>) {
    this.#mostBytes = Math.min(SMALL_BYTES, rangeBytes)
    this.#fetch = fetch
  }

  /** What was expected before is not expected any more. */
  expect(files: readonly SourceFile[]): void {
    this.#waiting = new Set(files.filter(({ facts }) => facts.size > 0 && facts.size <= this.#mostBytes))
    this.#fetched = new Map()
  }

  /** All bytes of an object that is opened; undefined: nobody has asked for them. The next ones are asked for. */
  take(file: SourceFile): Promise<Buffer> | undefined {
    const bytes = this.#fetched.get(file)
    this.#fetched.delete(file)
    this.#waiting.delete(file)
    for (const next of this.#waiting) {
      if (this.#fetched.size >= AHEAD) break
      this.#waiting.delete(next)
      const asked = this.#fetch(next)
      asked.catch(() => undefined) // whoever opens it is told
      this.#fetched.set(next, asked)
    }
    return bytes
  }
}
