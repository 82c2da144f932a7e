/** What the journal says: for each job the times that are decided, what is under way, and what came of the last ones. */
import type { LedgerPlace } from '../runtime/slot.ts'

export type SlotKind = 'cron' | 'missed' | 'after' | 'manual' | 'stream'
export type PassReason = 'missed' | 'overlap' | 'paused'

/** A person's act. */
export interface Act {
  readonly who: string
  readonly why: string
  /** ISO 8601 UTC. */
  readonly at: string
}

/** A scheduled time that was claimed and has not ended. */
export interface OpenSlot {
  /** `<job>@<time>`. */
  readonly id: string
  readonly job: string
  /** The scheduled time, milliseconds since the epoch. */
  readonly at: number
  readonly kind: SlotKind
  /** End of the job's ledger before the first run of the slot. */
  readonly since: LedgerPlace
  readonly act?: Act
  /** Of the job that goes on for ever, as it was when its run began. */
  readonly digest?: string
  /** The part of the job that is run, such as `2/8`; absent: all of it. */
  readonly shard?: string
  /** Runs that were started. */
  attempts: number
  /** Why it is being ended: the daemon has been asked to. */
  cancelled?: string
}

/** What a run had to tell; absent where it was killed or could not begin. */
export interface RunResult {
  readonly run: string
  readonly status: string
  readonly seconds: number
  readonly bytes: number
  readonly read: number
  readonly passed: number
  readonly quarantined: number
  readonly filtered: number
  readonly deduplicated: number
  readonly stores: Readonly<Record<string, { readonly loaded: number; readonly owed: number }>>
  readonly consumers: Readonly<Record<string, { readonly owed: number }>>
  readonly gaps: readonly {
    readonly source: string
    readonly lane: string
    readonly code: string
    readonly message: string
  }[]
  readonly warnings: number
}

export interface SlotEnd {
  readonly id: string
  readonly job: string
  readonly at: number
  readonly kind: SlotKind
  readonly shard?: string
  /** done · warnings · owed · gaps · rejected · failed · timeout · cancelled · removed. */
  readonly status: string
  readonly ok: boolean
  readonly exit: number | null
  readonly attempts: number
  /** ISO 8601 UTC. */
  readonly ended_at: string
  /** Of the last run, by a steady clock. */
  readonly seconds: number
  readonly code?: string
  readonly message?: string
  readonly result?: RunResult
}

export type JournalRecord =
  | { readonly type: 'snapshot'; readonly jobs: Readonly<Record<string, JobBook>> }
  | {
      readonly type: 'accepted'
      readonly job: string
      readonly file: string
      readonly digest: string
      /** Nothing that lies before is made up for. */
      readonly from: number | null
      /** Jobs it waits for → how often each had ended well. */
      readonly consumed: Readonly<Record<string, number>>
    }
  | { readonly type: 'removed'; readonly job: string }
  | {
      readonly type: 'claimed'
      readonly slot: Omit<OpenSlot, 'attempts' | 'cancelled'>
      readonly consumed?: Readonly<Record<string, number>>
    }
  | {
      readonly type: 'passed'
      readonly job: string
      /** Times in (from, to]. */
      readonly from: number
      readonly to: number
      readonly reason: PassReason
      /** How many times they are, where that was counted. */
      readonly count: number
      readonly consumed?: Readonly<Record<string, number>>
    }
  | { readonly type: 'started'; readonly slot: string; readonly job: string }
  | { readonly type: 'returned'; readonly slot: string; readonly job: string; readonly why: string }
  | { readonly type: 'cancelled'; readonly slot: string; readonly job: string; readonly why: string }
  | { readonly type: 'ended'; readonly end: SlotEnd }
  | { readonly type: 'paused'; readonly job: string; readonly act: Act }
  | { readonly type: 'resumed'; readonly job: string; readonly act: Act }
  | { readonly type: 'clock_reset'; readonly job: string; readonly to: number }

export interface JobBook {
  /** Accepted version of the job file. */
  file: string | null
  digest: string | null
  removed: boolean
  paused: Act | null
  /** Every scheduled time up to here is decided. */
  watermark: number
  /** Claimed times, the newest last: they stay taken also where the clock goes back. */
  taken: number[]
  open: OpenSlot[]
  /** The newest first. */
  recent: SlotEnd[]
  /** Slots that ended well, and the newest scheduled time among them. */
  wells: number
  lastWell: number
  /** Jobs it waits for → how many of their good ends it has answered. */
  consumed: Readonly<Record<string, number>>
  totals: Totals
}

/** Since the job was first accepted. */
export interface Totals {
  ended: Record<string, number>
  passed: Record<string, number>
  attempts: number
  seconds: number
  bytes: number
  read: number
  quarantined: number
  filtered: number
  deduplicated: number
  loaded: Record<string, number>
}

const TAKEN = 1000
const RECENT = 20

export class SlotBook {
  readonly jobs = new Map<string, JobBook>()

  job(name: string): JobBook {
    const found = this.jobs.get(name) ?? emptyBook()
    this.jobs.set(name, found)
    return found
  }

  /** Of all jobs. */
  get open(): OpenSlot[] {
    return [...this.jobs.values()].flatMap(({ open }) => open)
  }

  snapshot(): JournalRecord {
    return { type: 'snapshot', jobs: Object.fromEntries(this.jobs) }
  }

  apply(record: JournalRecord): void {
    if (record.type === 'snapshot') {
      this.jobs.clear()
      for (const [name, book] of Object.entries(record.jobs)) this.jobs.set(name, structuredClone(book))
      return
    }
    const name = record.type === 'claimed' ? record.slot.job : record.type === 'ended' ? record.end.job : record.job
    this.#applyTo(this.job(name), record)
  }

  #applyTo(book: JobBook, record: Exclude<JournalRecord, { type: 'snapshot' }>): void {
    switch (record.type) {
      case 'accepted':
        Object.assign(book, { file: record.file, digest: record.digest, removed: false, consumed: record.consumed })
        if (record.from !== null) book.watermark = Math.max(book.watermark, record.from)
        return
      case 'removed':
        book.removed = true
        return
      case 'claimed':
        book.open.push({ ...record.slot, attempts: 0 })
        book.taken = [...book.taken, record.slot.at].slice(-TAKEN)
        if (record.slot.kind === 'cron' || record.slot.kind === 'missed')
          book.watermark = Math.max(book.watermark, record.slot.at)
        if (record.consumed !== undefined) book.consumed = record.consumed
        return
      case 'passed':
        book.watermark = Math.max(book.watermark, record.to)
        book.totals.passed[record.reason] = (book.totals.passed[record.reason] ?? 0) + record.count
        if (record.consumed !== undefined) book.consumed = record.consumed
        return
      case 'started':
        for (const slot of book.open) if (slot.id === record.slot) slot.attempts += 1
        book.totals.attempts += 1
        return
      case 'returned':
        // It was cut short, or could not begin, for a reason that is not its own.
        for (const slot of book.open) if (slot.id === record.slot) slot.attempts -= 1
        return
      case 'cancelled':
        for (const slot of book.open) if (slot.id === record.slot) slot.cancelled = record.why
        return
      case 'ended':
        this.#end(book, record.end)
        return
      case 'paused':
        book.paused = record.act
        return
      case 'resumed':
        book.paused = null
        return
      case 'clock_reset':
        book.watermark = record.to
    }
  }

  #end(book: JobBook, end: SlotEnd): void {
    book.open = book.open.filter(({ id }) => id !== end.id)
    book.recent = [end, ...book.recent].slice(0, RECENT)
    if (end.ok) {
      book.wells += 1
      book.lastWell = Math.max(book.lastWell, end.at)
    }
    const { totals } = book
    totals.ended[end.status] = (totals.ended[end.status] ?? 0) + 1
    totals.seconds += end.seconds
    if (end.result === undefined) return
    for (const key of ['bytes', 'read', 'quarantined', 'filtered', 'deduplicated'] as const)
      totals[key] += end.result[key]
    for (const [store, { loaded }] of Object.entries(end.result.stores))
      totals.loaded[store] = (totals.loaded[store] ?? 0) + loaded
  }
}

export function slotId(job: string, at: number): string {
  return `${job}@${new Date(at).toISOString()}`
}

function emptyBook(): JobBook {
  return {
    file: null,
    digest: null,
    removed: false,
    paused: null,
    watermark: 0,
    taken: [],
    open: [],
    recent: [],
    wells: 0,
    lastWell: 0,
    consumed: {},
    totals: {
      ended: {},
      passed: {},
      attempts: 0,
      seconds: 0,
      bytes: 0,
      read: 0,
      quarantined: 0,
      filtered: 0,
      deduplicated: 0,
      loaded: {},
    },
  }
}
