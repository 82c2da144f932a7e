/** What was fetched of sources that cannot be read again, and is not loaded yet. Reads only. */
import { stagedIn } from '../clients/staging/staged-extractor.ts'
import type { Positions } from '../core/contracts.ts'
import type { Job } from '../core/job/job.ts'
import type { StateDir } from './state-dir.ts'

export interface StagedStatus {
  readonly source: string
  readonly lanes: number
  readonly bytes: number
  /** Of all that lies in the folder: what the checkpoint before still needs too. */
  readonly kept_bytes: number
  /** ISO 8601 UTC: since when the oldest of it waits. */
  readonly since: string | null
}

/** Of each source that has something in its folder. */
export async function stagedOf(
  { extract }: Job,
  state: StateDir,
  sources: Readonly<Record<string, Positions>>,
): Promise<StagedStatus[]> {
  const found: StagedStatus[] = []
  for (const { id } of extract) {
    const all = (await stagedIn(state.stagedOf(id))).flat()
    const size = (segments: typeof all) => segments.reduce((total, { from, to }) => total + to - from, 0)
    const left = all.filter(({ lane, to }) => to > Number(sources[id]?.[lane]?.at ?? 0))
    if (size(all) === 0) continue
    found.push({
      source: id,
      lanes: new Set(left.map(({ lane }) => lane)).size,
      bytes: size(left),
      kept_bytes: size(all),
      since: left.map(({ staged }) => staged).sort()[0] ?? null,
    })
  }
  return found
}
