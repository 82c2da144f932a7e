/** Many batches finish at once; one save of the checkpoint serves all that finished while the one before was on its way. */
import { GroupCommit } from '../core/group-commit.ts'
import type { CheckpointState, LaneCheckpoint, PlannedBatch } from './checkpoint-slot.ts'
import type { Checkpoints } from './checkpoints.ts'

/** CheckpointState that may be changed in place. */
export interface CheckpointDraft {
  epoch: string
  sequence: string
  /** Lanes of a source are replaced as a whole: what was saved of them is looked at later. */
  sources: Record<string, Readonly<Record<string, LaneCheckpoint>>>
  planned: PlannedBatch[]
  evolved?: Record<string, string>
  extra?: Record<string, unknown>
}

/** Where a run keeps its state. */
export interface Saver {
  readonly state: CheckpointState
  /** What a damaged checkpoint falls back to: positions of the one before the newest that is durable. */
  readonly fallback: Pick<CheckpointState, 'sources'>
  update(mutate: (draft: CheckpointDraft) => void): Promise<void>
  idle(): Promise<void>
}

/** The state in memory, always at or ahead of the checkpoint on disk. */
export class GroupSaver implements Saver {
  readonly #draft: CheckpointDraft
  readonly #commits: GroupCommit<void>
  #durable: Pick<CheckpointState, 'sources'>
  /** Of the other slot only this is known at first: that it is older. */
  #fallback: Pick<CheckpointState, 'sources'> = { sources: {} }

  constructor(checkpoints: Checkpoints) {
    this.#durable = checkpoints.current
    const { epoch, sequence, sources, planned, evolved, extra } = structuredClone(checkpoints.current)
    this.#draft = {
      epoch,
      sequence,
      sources: sources as CheckpointDraft['sources'],
      planned: [...planned],
      ...(evolved === undefined ? {} : { evolved: { ...evolved } }),
      ...(extra === undefined ? {} : { extra: { ...extra } }),
    }
    this.#commits = new GroupCommit(async () => {
      const saved = { sources: { ...this.#draft.sources } }
      await checkpoints.save(this.#draft)
      this.#fallback = this.#durable
      this.#durable = saved
    })
  }

  /** With all updates applied, durable or not. */
  get state(): CheckpointState {
    return this.#draft
  }

  get fallback(): Pick<CheckpointState, 'sources'> {
    return this.#fallback
  }

  /** Applies `mutate` at once and resolves when a save that includes it is durable. After a failed save, or a `mutate`
   *  that threw half way, everything pending and everything later is rejected: the caller ends the run. */
  update(mutate: (draft: CheckpointDraft) => void): Promise<void> {
    if (this.#commits.failure === undefined) {
      try {
        mutate(this.#draft)
      } catch (error) {
        this.#commits.poison(error)
      }
    }
    return this.#commits.add()
  }

  /** Resolves when no save is on its way. */
  idle(): Promise<void> {
    return this.#commits.idle()
  }
}
