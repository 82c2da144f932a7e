/**
 * Events of a stream in real time, and what must come of them: some come twice, some break a rule, all are a little out of order. Whoever
 * sends them counts them by campaign and minute as it goes.
 */

export const PARTITIONS = 2
export const CAMPAIGNS = 100
/** No event is further behind the newest of its partition. */
export const DISORDER_MS = 1500
/** What the windows of the job wait for. */
export const LATENESS_MS = 2000
export const MINUTE_MS = 60_000
/** An id is `partition * IDS + number`: in each partition ids rise. */
export const IDS = 10_000_000_000

/** Of so many records the last one is a repetition of the one that is REPEATED before it, in another partition. */
const REPEATED_EVERY = 50
const REPEATED = 21
/** Of so many records one breaks a rule. */
const BROKEN_EVERY = 10_000
const BROKEN = 7

/** Of a set of events. Exact: cost in millionths. */
export interface Sums {
  readonly count: string
  readonly cost: string
  readonly ids: string
  readonly digest: string
}

export interface Truth {
  readonly all: Sums
  readonly repeated: number
  readonly broken: number
  readonly windows: readonly WindowTruth[]
}

export interface WindowTruth {
  readonly startMs: number
  /** When the event was sent with which the watermark passed the end; undefined: the records at the very end did that. */
  readonly closedMs?: number
  readonly campaigns: Readonly<Record<number, Sums>>
}

/** SQL over a row: what ids are summed by as well. */
export const DIGEST = '(event_id % 65521) * (event_id % 65519)'

class Tally {
  #count = 0
  // Of one minute and campaign these stay below 2^53.
  #cost = 0
  #ids = 0
  #digest = 0

  add(id: number, micros: number): void {
    this.#count += 1
    this.#cost += micros
    this.#ids += id
    this.#digest += (id % 65521) * (id % 65519)
  }

  get sums(): Sums {
    return sumsOf([this.#count, this.#cost, this.#ids, this.#digest])
  }
}

export function sumsOf([count = 0, cost = 0, ids = 0, digest = 0]: readonly (number | string | bigint)[]): Sums {
  return { count: String(count), cost: String(cost), ids: String(ids), digest: String(digest) }
}

export function total(all: readonly Sums[]): Sums {
  const of = (name: keyof Sums) => all.reduce((sum, sums) => sum + BigInt(sums[name]), 0n)
  return sumsOf([of('count'), of('cost'), of('ids'), of('digest')])
}

/** The records of a run in their order, and what was sent. */
export class AdEvents {
  readonly #shiftMs: number
  readonly #windows = new Map<number, Map<number, Tally>>()
  /** Newest event of each partition. */
  readonly #reached = new Array<number>(PARTITIONS).fill(Number.NEGATIVE_INFINITY)
  readonly #closed = new Map<number, number>()
  #watermark = Number.NEGATIVE_INFINITY
  readonly #lately: string[] = new Array(REPEATED_EVERY).fill('')
  #repeated = 0
  #broken = 0

  /** `shiftMs`: how long before it is sent an event happens, at least: it makes minutes end when the bench wants them to. */
  constructor(shiftMs: number) {
    this.#shiftMs = shiftMs
  }

  record(nth: number, sentMs: number): string {
    if (nth % REPEATED_EVERY === REPEATED_EVERY - 1) {
      this.#repeated += 1
      return this.#lately[(nth - REPEATED) % REPEATED_EVERY] as string
    }
    const partition = nth % PARTITIONS
    const id = partition * IDS + nth
    const timeMs = sentMs - this.#shiftMs - ((nth * 7919) % DISORDER_MS)
    const campaign = Math.floor(nth / 7) % CAMPAIGNS
    const broken = nth % BROKEN_EVERY === BROKEN
    const cents = nth % 1000
    if (broken) this.#broken += 1
    else {
      this.#tallyOf(timeMs, campaign).add(id, cents * 10_000)
      this.#moved(partition, timeMs, sentMs)
    }
    const text = `{"event_id":${id},"sent":${sentMs},"event_time":"${new Date(timeMs).toISOString()}","campaign_id":${campaign},"user_id":"user-${nth % 9973}","event_type":"impression","cost":${broken ? '-' : ''}${cents / 100}}`
    this.#lately[nth % REPEATED_EVERY] = text
    return text
  }

  get truth(): Truth {
    const windows = [...this.#windows].map(([startMs, tallies]) => {
      const closedMs = this.#closed.get(startMs)
      const campaigns = Object.fromEntries([...tallies].map(([campaign, { sums }]) => [campaign, sums]))
      return { startMs, campaigns, ...(closedMs === undefined ? {} : { closedMs }) }
    })
    const all = total(windows.flatMap(({ campaigns }) => Object.values(campaigns)))
    return { all, windows, repeated: this.#repeated, broken: this.#broken }
  }

  #tallyOf(timeMs: number, campaign: number): Tally {
    const startMs = timeMs - (timeMs % MINUTE_MS)
    const window = this.#windows.get(startMs) ?? new Map<number, Tally>()
    this.#windows.set(startMs, window)
    const tally = window.get(campaign) ?? new Tally()
    window.set(campaign, tally)
    return tally
  }

  /** As the job reckons it: the partition that is furthest behind, less the lateness. */
  #moved(partition: number, timeMs: number, sentMs: number): void {
    if (timeMs <= (this.#reached[partition] as number)) return
    this.#reached[partition] = timeMs
    const watermark = Math.min(...this.#reached) - LATENESS_MS
    const passed = Math.floor(watermark / MINUTE_MS) * MINUTE_MS
    if (Number.isFinite(watermark) && passed > this.#watermark) this.#closed.set(passed - MINUTE_MS, sentMs)
    this.#watermark = Math.max(this.#watermark, watermark)
  }
}
