/** Stands where a run saves its checkpoint, for work that leaves that as it is. */
import type { Checkpoint } from './checkpoint-slot.ts'
import type { CheckpointDraft, Saver } from './group-saver.ts'
import type { PastRanges } from './run.ts'

export function memorySaver(): Saver {
  return saverOf({ epoch: '0', sequence: '1', sources: {}, planned: [] })
}

/** Under the epoch and with the columns of the checkpoint; its positions and plans are none of this work. */
export function pastSaver({ epoch, sequence, evolved, extra }: Checkpoint, past: PastRanges): Saver {
  return saverOf({
    epoch,
    sequence,
    sources: structuredClone(past.sources) as CheckpointDraft['sources'],
    planned: [...past.planned],
    ...(evolved === undefined ? {} : { evolved: { ...evolved } }),
    ...(extra === undefined ? {} : { extra: { ...extra } }),
  })
}

function saverOf(draft: CheckpointDraft): Saver {
  return { state: draft, fallback: draft, update: async (mutate) => mutate(draft), idle: async () => undefined }
}
