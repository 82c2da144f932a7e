/** Stands where a run saves its checkpoint, for work that leaves no state behind. */
import type { CheckpointDraft, GroupSaver } from './group-saver.ts'

export function memorySaver(): Pick<GroupSaver, 'state' | 'update'> {
  const draft: CheckpointDraft = { epoch: '0', sequence: '1', sources: {}, planned: [] }
  return {
    state: draft,
    update: async (mutate) => mutate(draft),
  }
}
