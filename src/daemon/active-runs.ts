/** Runs that go on, and those that have ended since somebody looked. */
import type { Run, RunEnd } from './child-run.ts'
import type { Clock } from './clock.ts'
import type { OpenSlot } from './slot-book.ts'

export interface ActiveRun {
  readonly slot: OpenSlot
  readonly run: Run
  /** Steady clock. */
  readonly since: number
  timedOut: boolean
}

export class ActiveRuns {
  readonly #clock: Clock
  readonly #ended: () => void
  readonly #runs = new Map<string, ActiveRun>()
  readonly #ends: { readonly active: ActiveRun; readonly end: RunEnd }[] = []
  #failure: unknown

  /** `ended` is called when a run has. */
  constructor(clock: Clock, ended: () => void) {
    this.#clock = clock
    this.#ended = ended
  }

  get all(): readonly ActiveRun[] {
    return [...this.#runs.values()]
  }

  get someEnded(): boolean {
    return this.#ends.length > 0
  }

  /** @throws what made it impossible to look after a run */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  get(slot: string): ActiveRun | undefined {
    return this.#runs.get(slot)
  }

  watch(slot: OpenSlot, run: Run): void {
    const active = { slot, run, since: this.#clock.steady(), timedOut: false }
    this.#runs.set(slot.id, active)
    run.ended.then(
      (end) => {
        this.#ends.push({ active, end })
        this.#ended()
      },
      (error: unknown) => {
        this.#failure = error
        this.#ended()
      },
    )
  }

  /** Each end once: the run is none of those that go on any more. */
  takeEnd(): { readonly active: ActiveRun; readonly end: RunEnd } | undefined {
    const next = this.#ends.shift()
    if (next !== undefined) this.#runs.delete(next.active.slot.id)
    return next
  }

  /** Tells runs to stop that have lasted longer than they may. */
  enforce(timeoutMs: (slot: OpenSlot) => number | undefined): void {
    const now = this.#clock.steady()
    for (const active of this.#runs.values()) {
      const limitMs = timeoutMs(active.slot)
      if (limitMs === undefined || active.timedOut || now - active.since < limitMs) continue
      active.timedOut = true
      active.run.stop()
    }
  }
}
