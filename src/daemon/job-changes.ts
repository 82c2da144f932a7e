/** What a changed set of job files means to the journal. */
import type { AcceptedJob } from './job-folder.ts'
import type { JobBook, JournalRecord, OpenSlot, SlotBook, SlotEnd } from './slot-book.ts'

export interface JobChanges {
  readonly book: SlotBook
  readonly jobs: ReadonlyMap<string, AcceptedJob>
  /** undefined: the daemon has just begun to lead. */
  readonly before: ReadonlyMap<string, AcceptedJob> | undefined
  readonly nowMs: number
  readonly isActive: (slot: OpenSlot) => boolean
  readonly removed: (slot: OpenSlot) => SlotEnd
}

export function jobChanges({ book, jobs, before, nowMs, isActive, removed }: JobChanges): JournalRecord[] {
  const records: JournalRecord[] = []
  for (const [name, { job, digest }] of jobs) {
    const known = book.job(name)
    if (known.digest === digest && known.file === job.file && !known.removed) continue
    const old = before?.get(name)?.job.schedule
    const { schedule } = job
    // Under another pattern other times lie behind us: nobody has asked for those.
    const isOther = old !== undefined && (old.cron !== schedule?.cron || old.timezone !== schedule?.timezone)
    records.push({
      type: 'accepted',
      job: name,
      file: job.file,
      digest,
      from: known.digest === null || isOther ? nowMs : null,
      consumed: consumed(schedule?.after ?? [], known, book),
    })
  }
  for (const [name, { removed: isRemoved, open }] of book.jobs) {
    if (jobs.has(name) || isRemoved) continue
    records.push({ type: 'removed', job: name })
    for (const slot of open) if (!isActive(slot)) records.push({ type: 'ended', end: removed(slot) })
  }
  return records
}

/** Of a job that it newly waits for, what has happened so far needs no answer. */
function consumed(after: readonly string[], known: JobBook, book: SlotBook): Readonly<Record<string, number>> {
  return Object.fromEntries(after.map((name) => [name, known.consumed[name] ?? book.job(name).wells]))
}
