/** Times of jobs as the journal has them: claimed before anything is started for them, and cancelled where nothing is to be. */
import type { ActiveRuns } from './active-runs.ts'
import type { SchedulerOptions } from './scheduler.ts'
import { type JobBook, type OpenSlot, slotId } from './slot-book.ts'
import { slotEnd } from './slot-end.ts'

export class Claims {
  readonly #options: Pick<SchedulerOptions, 'journal' | 'clock' | 'log' | 'ledgerEnd'>
  readonly #active: ActiveRuns

  constructor(options: Pick<SchedulerOptions, 'journal' | 'clock' | 'log' | 'ledgerEnd'>, active: ActiveRuns) {
    this.#options = options
    this.#active = active
  }

  /** Now, or as soon after it as no slot of the job has the time. */
  freeTime(book: JobBook): number {
    let at = this.#options.clock.wall()
    while (book.taken.includes(at)) at += 1
    return at
  }

  /** Resolves to the id of the slot; it is on disk then. */
  async claim(
    job: string,
    at: number,
    kind: OpenSlot['kind'],
    more: Pick<OpenSlot, 'act' | 'digest' | 'shard'> & { readonly consumed?: Readonly<Record<string, number>> },
  ): Promise<string> {
    const { journal, log } = this.#options
    const id = slotId(job, at)
    const { consumed, ...about } = more
    const since = await this.#options.ledgerEnd({ job, ...about })
    await journal.append([
      {
        type: 'claimed',
        slot: { id, job, at, kind, since, ...about },
        ...(consumed === undefined ? {} : { consumed }),
      },
    ])
    log.info({ job, slot: id, kind }, `claimed ${id}`)
    return id
  }

  /** What runs for it is told to stop, and books its end itself. */
  async cancel(slot: OpenSlot, why: string): Promise<void> {
    const { clock, journal } = this.#options
    if (slot.cancelled !== undefined) return
    await journal.append([{ type: 'cancelled', slot: slot.id, job: slot.job, why }])
    const active = this.#active.get(slot.id)
    if (active !== undefined) return active.run.stop()
    const end = { exit: null, seconds: 0, status: 'cancelled', message: why }
    const about = { status: 'cancelled', ok: false, nowMs: clock.wall() }
    await journal.append([{ type: 'ended', end: slotEnd(slot, end, about) }])
  }
}
