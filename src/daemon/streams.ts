/** Jobs that go on for ever: each of their parts that is this daemon's has one open slot, and a run of it, as long as the job is there, is
 *  not paused and is what it was. */
import { parseShard, type Shard, shardText } from '../core/shard.ts'
import type { AcceptedJob } from './job-folder.ts'
import type { JobBook, OpenSlot } from './slot-book.ts'

export interface StreamDecisions {
  readonly cancel: readonly { readonly slot: OpenSlot; readonly why: string }[]
  /** Runs are to begin: of these parts, or of the whole job (undefined). */
  readonly claim: readonly (string | undefined)[]
}

/** `accepted`: the job as its file has it now; undefined: it was taken away. `mine`: parts that this daemon is to run. */
export function decideStream(
  book: JobBook,
  accepted: AcceptedJob | undefined,
  mine: ReadonlySet<number>,
): StreamDecisions {
  const forever = accepted?.job.stream.forever === true
  const why = (slot: OpenSlot): string | undefined => {
    if (accepted === undefined) return 'the job was taken away'
    if (!forever) return 'the job does not go on for ever any more'
    if (book.paused !== null) return 'the job is paused'
    if (slot.digest !== accepted.digest) return 'the job file has changed'
    return mine.has(shardOf(slot).index) ? undefined : 'another daemon takes it over'
  }
  const cancel = book.open.flatMap((slot) => {
    const reason = slot.kind === 'stream' ? why(slot) : undefined
    return reason === undefined ? [] : [{ slot, why: reason }]
  })
  // What the job was before must have ended, all of it: its parts may have been others.
  const quiet = book.open.every(({ kind, digest }) => kind === 'stream' && digest === accepted?.digest)
  if (!forever || book.paused !== null || !quiet) return { cancel, claim: [] }
  const open = new Set(book.open.map((slot) => shardOf(slot).index))
  const { shards } = accepted.job.stream
  const claim = [...mine]
    .filter((index) => !open.has(index))
    .sort((a, b) => a - b)
    .map((index) => (shards === 1 ? undefined : shardText({ index, of: shards })))
  return { cancel, claim }
}

/** The part of its job that a slot is for. */
export function shardOf({ shard }: Pick<OpenSlot, 'shard'>): Shard {
  return parseShard(shard ?? '0/1') ?? { index: 0, of: 1 }
}
