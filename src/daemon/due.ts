/** Which scheduled times are due, and what the policies of a job say about each. Nothing here waits, and nothing is written. */
import { hash } from 'node:crypto'
import { type CronTimes, cronTimes } from '../core/cron.ts'
import type { JobSchedule } from '../core/job/schedule.ts'
import type { JobBook, PassReason, SlotKind } from './slot-book.ts'

/** A start that is later than this was missed: by then another daemon would have taken over. */
const GRACE_MS = 60_000
/** Times that are looked at one by one; of more than that only the newest. Where no more than one gets a run, they are only counted. */
const MOST = 10_000
const MOST_COUNTED = 1_000

export type Decision =
  | { readonly type: 'claim'; readonly at: number; readonly kind: SlotKind }
  | {
      readonly type: 'pass'
      readonly from: number
      readonly to: number
      readonly reason: PassReason
      readonly count: number
    }
  /** The runs that go on, or wait, give way. */
  | { readonly type: 'cancel' }

/** For a job that goes by `cron`. */
export function dueByCron(job: string, schedule: JobSchedule, book: JobBook, nowMs: number): Decision[] {
  const times = timesOf(schedule)
  if (times === undefined) return []
  const reach = schedule.missed === 'none' ? 0 : schedule.catchUpMs
  const windowStart = nowMs - Math.max(reach, GRACE_MS) - schedule.jitterMs
  const decisions: Decision[] = []
  const pass = (from: number, to: number, reason: PassReason, count: number) =>
    decisions.push({ type: 'pass', from, to, reason, count })
  let from = book.watermark
  if (from < windowStart) {
    // Of what is too old only the number is of interest; it is not worth walking through years.
    if ((times.after(from) ?? Number.POSITIVE_INFINITY) <= windowStart) {
      const old = between(times, from, windowStart, MOST_COUNTED)
      pass(from, windowStart, book.paused === null ? 'missed' : 'paused', old.length)
    }
    from = windowStart
  }
  const passed = between(times, from, nowMs, schedule.missed === 'all' ? MOST : MOST_COUNTED)
  // With jitter a later time may start earlier; it waits, so that all up to the watermark is decided.
  const early = passed.findIndex((at) => at + jitterOf(job, schedule, at) > nowMs)
  const due = early < 0 ? passed : passed.slice(0, early)
  const last = due.at(-1)
  if (last === undefined) return decisions
  const fresh = due.filter((at) => !book.taken.includes(at))
  if (book.paused !== null) {
    pass(from, last, 'paused', fresh.length)
    return decisions
  }
  // A time that an earlier one has held up is as late as that one.
  const starts = new Map<number, number>()
  let start = 0
  for (const at of due) {
    start = Math.max(start, at + jitterOf(job, schedule, at))
    starts.set(at, start)
  }
  const isLate = (at: number) => (starts.get(at) ?? at) < nowMs - GRACE_MS
  const late = fresh.filter(isLate)
  const chosen = chosenOf(schedule, fresh, late)
  let waiting = book.open.length
  let at = from
  for (const time of fresh) {
    if (!chosen.has(time)) pass(at, time, 'missed', 1)
    else if (isLate(time) && schedule.missed === 'all') {
      decisions.push({ type: 'claim', at: time, kind: 'missed' })
      waiting += 1
    } else if (waiting > 0 && !mayJoin(schedule, waiting)) pass(at, time, 'overlap', 1)
    else {
      if (waiting > 0 && schedule.overlap === 'cancel_other') decisions.push({ type: 'cancel' })
      decisions.push({ type: 'claim', at: time, kind: isLate(time) ? 'missed' : 'cron' })
      waiting += 1
    }
    at = time
  }
  return decisions
}

/** For a job that waits for others: the time of its next run, and the good ends that it answers; undefined: one of them has
 *  not ended well since its last run. */
export function dueAfter(
  after: readonly string[],
  book: JobBook,
  bookOf: (job: string) => JobBook,
): { readonly at: number; readonly consumed: Readonly<Record<string, number>> } | undefined {
  const upstream = after.map((name) => [name, bookOf(name)] as const)
  if (!upstream.every(([name, { wells }]) => wells > (book.consumed[name] ?? 0))) return undefined
  let at = Math.max(...upstream.map(([, { lastWell }]) => lastWell))
  while (book.taken.includes(at)) at += 1
  return { at, consumed: Object.fromEntries(upstream.map(([name, { wells }]) => [name, wells])) }
}

/** Before this instant nothing becomes due, unless the book changes; undefined: nothing ever will. */
export function quietUntil(job: string, schedule: JobSchedule, { watermark }: JobBook): number | undefined {
  const at = timesOf(schedule)?.after(watermark)
  return at === undefined ? undefined : at + jitterOf(job, schedule, at)
}

/** The next times, and when their runs start, jitter included; none where the job goes by no clock. */
export function upcoming(
  job: string,
  schedule: JobSchedule,
  book: JobBook,
  nowMs: number,
  count: number,
): readonly { readonly at: number; readonly start: number }[] {
  const times = timesOf(schedule)
  const found = []
  for (
    let at = times?.after(Math.max(book.watermark, nowMs));
    at !== undefined && found.length < count;
    at = times?.after(at)
  )
    found.push({ at, start: at + jitterOf(job, schedule, at) })
  return found
}

/** The times that get a run, before overlap is looked at. */
function chosenOf({ missed }: JobSchedule, fresh: readonly number[], late: readonly number[]): ReadonlySet<number> {
  if (late.length === 0 || missed === 'all') return new Set(fresh)
  if (missed === 'one') return new Set(fresh.slice(-1))
  const missing = new Set(late)
  return new Set(fresh.filter((at) => !missing.has(at)))
}

function mayJoin({ overlap }: JobSchedule, open: number): boolean {
  return overlap === 'cancel_other' || (overlap === 'queue_one' && open < 2)
}

function between(times: CronTimes, fromMs: number, toMs: number, most: number): number[] {
  const found: number[] = []
  for (let at = times.after(fromMs); at !== undefined && at <= toMs && found.length < most; at = times.after(at))
    found.push(at)
  const newest = found.length === most ? times.before(toMs) : undefined
  if (newest !== undefined && newest > (found.at(-1) ?? fromMs)) found.push(newest)
  return found
}

/** The same for every daemon, so that a restart starts nothing earlier or later. */
function jitterOf(job: string, { jitterMs }: JobSchedule, at: number): number {
  if (jitterMs === 0) return 0
  return Number.parseInt(hash('sha256', `${job}@${at}`).slice(0, 12), 16) % jitterMs
}

const known = new Map<string, CronTimes>()

function timesOf({ cron, timezone }: JobSchedule): CronTimes | undefined {
  if (cron === undefined) return undefined
  const key = `${timezone} ${cron}`
  const times = known.get(key) ?? cronTimes(cron, timezone)
  known.set(key, times)
  return times
}
