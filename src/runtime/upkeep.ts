/**
 * What goes on beside the batches of a run that goes on for ever: stores that are down are tried again and paid, what waits is
 * handed over to consumers, and the log says what has gone through. Nothing here holds up a batch.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { redact } from '../core/job/secrets.ts'
import { writeLive } from './live-file.ts'
import type { Phases } from './phases.ts'
import type { SessionPool } from './session-pool.ts'
import type { Store } from './store.ts'
import type { RunSummary } from './summary.ts'

/** Longest pause between two attempts at a store that is down: it is back in use within that time. */
const LONGEST_PAUSE_MS = 5_000
/** How often the run says what it is doing. */
const LIVE_MS = 2_000
/** Between two looks at what waits for consumers. */
const HAND_OVER_MS = 250

export interface UpkeepOptions {
  readonly stores: readonly Store[]
  /** One for each store, of its own: a store that does not answer holds up no other. */
  readonly sessions: SessionPool
  /** First pause between two attempts at a store. */
  readonly retryMs: number
  /** Between two lines of the log. */
  readonly reportMs: number
  /** Where the run says for others what it is doing. */
  readonly folder: string
  readonly summary: RunSummary
  readonly phases: Phases
  readonly log: Logger
  /** Hands over what waits for consumers; undefined where the job has none. */
  readonly distribute: (() => Promise<void>) | undefined
  /** Called once, when the run cannot go on: the ledger or the spool cannot be written. */
  readonly failed: (error: unknown) => void
}

export class Upkeep {
  readonly #options: UpkeepOptions
  readonly #stop = new AbortController()
  readonly #work: Promise<unknown>

  private constructor(options: UpkeepOptions) {
    this.#options = options
    const loops = options.stores.map((store) => this.#lookAfter(store))
    if (options.distribute !== undefined) loops.push(this.#handOver(options.distribute))
    loops.push(this.#report())
    this.#work = Promise.all(loops).catch((error: unknown) => {
      this.#stop.abort()
      options.failed(error)
    })
  }

  static start(options: UpkeepOptions): Upkeep {
    return new Upkeep(options)
  }

  /** Resolves when nothing of it is under way any more. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#work
    this.#options.sessions.close()
  }

  async #lookAfter(store: Store): Promise<void> {
    const { retryMs, log, sessions } = this.#options
    const session = await sessions.acquire()
    let pauseMs = retryMs
    while (await this.#paused(pauseMs)) {
      const { down } = store
      await store.recover(session)
      if (down !== undefined && store.down === undefined)
        log.info({ loader: store.id }, `${store.id} takes batches again`)
      else if (down === undefined && store.down !== undefined)
        log.warn({ loader: store.id, code: store.down.code }, redact(store.down.message))
      pauseMs = store.down === undefined ? retryMs : Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    }
  }

  async #handOver(distribute: () => Promise<void>): Promise<void> {
    while (await this.#paused(HAND_OVER_MS)) await distribute()
  }

  async #report(): Promise<void> {
    const { summary, stores, reportMs, log, folder, phases } = this.#options
    let [read, at, told] = [0, Date.now(), Date.now()]
    while (await this.#paused(LIVE_MS)) {
      const now = Date.now()
      const rate = Math.round(((summary.read - read) * 1000) / Math.max(1, now - at))
      read = summary.read
      at = now
      await writeLive(folder, summary, stores, rate, phases).catch((error: unknown) =>
        log.warn({ err: error }, 'what the run is doing cannot be written down for others to see'),
      )
      if (now - told < reportMs) continue
      told = now
      const { passed, quarantined, filtered, deduplicated, batches } = summary
      const down = stores.filter((store) => store.down !== undefined).map(({ id }) => id)
      log.info(
        { read, passed, quarantined, filtered, deduplicated, batches, rate, down, timing: phases.timings() },
        `${read} records so far, ${rate} a second${down.length === 0 ? '' : `; down: ${down.join(', ')}`}`,
      )
    }
  }

  /** false: it was told to stop. */
  async #paused(ms: number): Promise<boolean> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => undefined) // aborted: said by the answer
    return !this.#stop.signal.aborted
  }
}
