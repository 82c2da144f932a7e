/**
 * Sources that are one batch each, however large: read where they are and streamed into the one store, which saves a copy of
 * every byte. It works as long as every record is clean. A batch of which one is not, or whose file changes meanwhile, is
 * given up before anything of it is visible: its plan is dropped, and its source is read again in ordinary chunks.
 */
import type { Chunk } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Session } from '../engine/session.ts'
import type { Store } from './store.ts'

export class WholeChunks {
  readonly #largest: number
  /** Sources that had one that was not clean: the next one probably is not either. */
  readonly #unclean = new Set<string>()
  readonly #givenUp = new Set<string>()
  readonly #begun = new Set<string>()

  constructor(largestBytes: number) {
    this.#largest = largestBytes
  }

  /** See ReadContext.wholeBytes. */
  largest(source: string): number {
    return this.#unclean.has(source) ? 0 : this.#largest
  }

  begin(source: string): void {
    this.#begun.add(source)
  }

  giveUp(source: string): void {
    this.#unclean.add(source)
    this.#givenUp.add(source)
  }

  /** Waits for what is under way of a source that had whole chunks. true: one was given up, the source must be read again. */
  async mustReadAgain(source: string, underWay: Iterable<Promise<void>>): Promise<boolean> {
    if (!this.#begun.delete(source)) return false
    await Promise.all(underWay)
    return this.#givenUp.delete(source)
  }
}

export function isWhole(chunk: Chunk): boolean {
  return chunk.counted !== undefined
}

/** The file was changed while it was read, which is noticed before anything is visible. */
export function hasChanged(error: unknown): boolean {
  return error instanceof AdflowError && error.code === 'SOURCE_CHANGED'
}

/** No store has the batch, and none is owed it. A store that cannot say may have it. */
export async function isNowhere(token: string, stores: readonly Store[], session: Session): Promise<boolean> {
  for (const { down, loader, spool } of stores) {
    if (down !== undefined || loader.probe === undefined) return false
    if (spool.owed.some((owed) => owed.batch === token)) return false
    const probed = await loader.probe(token, { engine: session }).catch(() => 'unknown' as const)
    if (probed !== undefined) return false
  }
  return true
}

/** A planned range that some store may have cannot be cut otherwise, and as it is it cannot be read. */
export function cannotBeRepeated({ origin, range }: Chunk): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `${origin} [${range.from}, ${range.to}) has records beyond resources.max_record, and had none when it was planned`,
    { hint: 'raise resources.max_record to what it was, for one run' },
  )
}
