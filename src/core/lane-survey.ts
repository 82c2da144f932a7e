/** What there is to read of a lane. */
import type { Position } from './contracts.ts'

export interface LaneSurvey {
  readonly lane: string
  readonly origin: string
  readonly at: Position
  /** Where the lane ends now; unknown for compressed sources. */
  readonly end?: Position
  /** Bytes on the source still to be read (compressed bytes where compressed). */
  readonly bytesLeft: number
  /** `new`, `continue`, `done`, `rotated`, `truncated`, `replaced`, `missing`; `staged`: fetched, and not loaded yet. */
  readonly state: string
}
