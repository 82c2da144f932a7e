/** Moves of one outbox file on its way to one consumer, as events of the ledger. */
import type { Ledger } from '../lineage/ledger.ts'
import { move, type State } from '../runtime/states.ts'

export interface Counts {
  /** Rows. */
  readonly delivered: number
  readonly dead: number
}

export class FileMoves {
  readonly #ledger: Ledger
  readonly #file: { readonly token: string; readonly consumer: string }
  #state: State

  /** `again`: an earlier run was at it. */
  constructor(ledger: Ledger, token: string, consumer: string, again: boolean) {
    this.#ledger = ledger
    this.#file = { token, consumer }
    this.#state = again ? 'distribution.retry' : 'distribution.pending'
  }

  async to(state: State, counts: Counts, reason?: string): Promise<void> {
    const before = this.#state
    this.#state = move<State, State>(before, state, `batch ${this.#file.token} for ${this.#file.consumer}`)
    await this.#ledger.append([
      {
        type: 'distribution_moved',
        ...this.#file,
        state,
        before_state: before,
        ...counts,
        ...(reason === undefined ? {} : { reason }),
      },
    ])
  }

  /** The run ends, and rows are left. */
  async owed(counts: Counts, reason: string): Promise<void> {
    await this.to('distribution.failed', counts, reason)
    await this.to('distribution.retry', counts)
  }
}
