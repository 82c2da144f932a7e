/** What the parts of a job do, each a run of its own, as if they were one. */
import type { LiveRun } from './live-file.ts'

/** The run and the process are those of the first. undefined: there are none. */
export function together(parts: readonly LiveRun[]): LiveRun | undefined {
  const [first] = parts
  if (first === undefined) return undefined
  const total = (value: (part: LiveRun) => number) => parts.reduce((sum, part) => sum + value(part), 0)
  const [started_at = first.started_at] = parts.map((part) => part.started_at).sort()
  const [at = first.at] = parts.map((part) => part.at).sort()
  const stores = new Set(parts.flatMap((part) => Object.keys(part.stores)))
  return {
    ...first,
    started_at,
    at,
    bytes: total(({ bytes }) => bytes),
    batches: total(({ batches }) => batches),
    read: total(({ read }) => read),
    passed: total(({ passed }) => passed),
    quarantined: total(({ quarantined }) => quarantined),
    filtered: total(({ filtered }) => filtered),
    deduplicated: total(({ deduplicated }) => deduplicated),
    rate: total(({ rate }) => rate),
    gaps: total(({ gaps }) => gaps),
    lag: parts.every(({ lag }) => lag === null) ? null : total(({ lag }) => lag ?? 0),
    stores: Object.fromEntries(
      [...stores].map((id) => [
        id,
        {
          loaded: total((part) => part.stores[id]?.loaded ?? 0),
          owed: total((part) => part.stores[id]?.owed ?? 0),
          down: parts.find((part) => part.stores[id]?.down != null)?.stores[id]?.down ?? null,
        },
      ]),
    ),
  }
}
