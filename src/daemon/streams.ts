/** Jobs that go on for ever: each has one open slot, and a run of it, as long as the job is there, is not paused and is what it was. */
import type { AcceptedJob } from './job-folder.ts'
import type { JobBook, OpenSlot } from './slot-book.ts'

export interface StreamDecisions {
  readonly cancel: readonly { readonly slot: OpenSlot; readonly why: string }[]
  /** A run is to begin. */
  readonly claim: boolean
}

/** `accepted`: the job as its file has it now; undefined: it was taken away. */
export function decideStream(book: JobBook, accepted: AcceptedJob | undefined): StreamDecisions {
  const forever = accepted?.job.stream.forever === true
  const why = (slot: OpenSlot): string | undefined => {
    if (accepted === undefined) return 'the job was taken away'
    if (!forever) return 'the job does not go on for ever any more'
    if (book.paused !== null) return 'the job is paused'
    return slot.digest === accepted.digest ? undefined : 'the job file has changed'
  }
  const cancel = book.open.flatMap((slot) => {
    const reason = slot.kind === 'stream' ? why(slot) : undefined
    return reason === undefined ? [] : [{ slot, why: reason }]
  })
  return { cancel, claim: forever && book.paused === null && book.open.length === 0 }
}
