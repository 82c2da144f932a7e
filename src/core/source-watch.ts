/** What a run and its sources tell each other beside chunks and gaps. */

/** How long a run waits for one source, and what it is told. */
export interface SourceWatch {
  /** Longest time in which the source may give nothing, in milliseconds; infinite where there is no limit. */
  readonly silenceMs: number
  /** Aborted when the source is given up, with an AdflowError SOURCE_TIMEOUT as its reason: nothing more is asked of it, and what
   *  was fetched of it is read on. */
  readonly givenUp: AbortSignal
  /** The source has given so many bytes: it is not silent. */
  moved(bytes: number): void
  /** For work that the source is not to blame for: waiting for the disk or the engine. */
  hold<T>(work: () => Promise<T>): Promise<T>
  /** Called when the last chunk of the lane was taken: the source has no more of it now, so that older gaps of it are repaid. */
  ended(lane: string): void
  /** So many records were there to be read when the source last looked, and were not taken yet. Absent: nobody asks. */
  behind?(records: number): void
  /** Asked for ever, the source has looked everywhere at this time (milliseconds since the epoch), and there was nothing that was not taken. */
  empty?(lookedMs: number): void
  /** So many bytes are staged of the source, and not loaded. */
  staged(bytes: number): void
}

/** Limits of a source for the requests to one host. */
export interface HostLimits {
  /** Under way at the same time. */
  readonly concurrency: number
  /** That begin in a second; undefined: any number. */
  readonly perSecond: number | undefined
}

/** Requests of all sources of a run to one host, under the strictest limits that any of them has for it. */
export interface HostGate {
  /** Rejects with the signal's reason where it is aborted while the request waits. */
  pass<T>(host: string, limits: HostLimits, signal: AbortSignal, request: () => Promise<T>): Promise<T>
}
