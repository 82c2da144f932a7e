/**
 * Sources that are one batch each, however large: read where they are and streamed into the one store, which saves a copy of
 * every byte. It works as long as every record is clean. A batch of which one is not, or whose file changes meanwhile, is
 * given up before anything of it is visible: its plan is dropped, and its source is read again in ordinary chunks.
 */
import type { AheadContext, Chunk } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { integerFields } from '../engine/integer-fields.ts'
import type { Session } from '../engine/session.ts'
import type { CheckpointState } from './checkpoint-slot.ts'
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

interface AheadOptions {
  readonly job: Job
  readonly past?: unknown
  readonly modified?: unknown
  readonly drain?: AbortSignal
  readonly forever: boolean
}

/** What a source may begin before the run is open, where whole files may be handed over, as far as can be told by then. */
export function aheadOf(
  { job, past, modified, drain, forever }: AheadOptions,
  { sources, planned }: Pick<CheckpointState, 'sources' | 'planned'>,
): ((source: string) => AheadContext) | undefined {
  const { chunkBytes, maxRecordBytes, wholeFileBytes: wholeBytes } = job.resources
  const oneStore = job.load.length === 1 && job.distribute.length === 0 && job.unknown === 'discard_value'
  if (!oneStore || past !== undefined || modified !== undefined || forever || drain?.aborted === true) return undefined
  return (id) => ({
    from: sources[id] ?? {},
    planned: planned.filter(({ source }) => source === id),
    ...{ chunkBytes, maxRecordBytes, wholeBytes, integers: integerFields(job.columns) },
  })
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
