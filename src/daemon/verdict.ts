/** What becomes of a slot when a run of it has ended. */
import { EXIT } from '../core/errors.ts'
import { endedWell } from '../runtime/slot.ts'
import type { RunEnd } from './child-run.ts'
import type { OpenSlot } from './slot-book.ts'

/** Another run holds the job, or another daemon leads: how soon it is tried again. */
const LOCKED_MS = 5_000
/** Pauses before the next run of a job that goes on for ever. */
const STREAM_FIRST_MS = 1_000
const STREAM_MOST_MS = 60_000
/** A run that has lasted so long was no failure to start. */
const STREAM_STEADY_SECONDS = 300
/** Exit codes whose reason may pass by itself. */
const MAY_PASS: readonly number[] = [EXIT.unavailable, EXIT.localIo, EXIT.tryAgain]
const STOPPED: readonly number[] = [EXIT.terminated, EXIT.interrupted]

export type Verdict =
  | { readonly type: 'close'; readonly status: string; readonly ok: boolean; readonly message?: string }
  /** It is run again after so long. */
  | { readonly type: 'retry'; readonly status: string; readonly pauseMs: number }
  /** The run does not count. */
  | { readonly type: 'put_back'; readonly why: string; readonly pauseMs: number }

export interface Circumstances {
  /** The daemon is on its way out. */
  readonly draining: boolean
  readonly timedOut: boolean
  /** undefined: no run is repeated. */
  readonly retries: { readonly attempts: number; readonly initialMs: number; readonly maxMs: number } | undefined
  /** The job goes on for ever: whatever has ended it, it is run again. */
  readonly stream: boolean
}

export function verdictOn(
  slot: Pick<OpenSlot, 'attempts' | 'cancelled'>,
  end: RunEnd,
  { draining, timedOut, retries, stream }: Circumstances,
): Verdict {
  const { exit, status, code } = end
  const interrupted = status === 'interrupted'
  if (exit !== null && endedWell({ status, exit }))
    return { type: 'close', status: exit === EXIT.warnings ? 'warnings' : status, ok: true }
  if (slot.cancelled !== undefined) return { type: 'close', status: 'cancelled', ok: false, message: slot.cancelled }
  const stopped = interrupted || exit === null || STOPPED.includes(exit)
  if (draining && stopped) return { type: 'put_back', why: 'the daemon was stopped', pauseMs: 0 }
  if (stream && code === 'FENCED')
    return { type: 'put_back', why: 'another daemon has taken it over, or may have', pauseMs: STREAM_FIRST_MS }
  if (code === 'FENCED') return { type: 'put_back', why: 'another daemon leads', pauseMs: LOCKED_MS }
  if (code === 'JOB_LOCKED')
    return { type: 'put_back', why: 'another run holds the job', pauseMs: stream ? STREAM_FIRST_MS : LOCKED_MS }
  const failure = timedOut ? 'timeout' : interrupted ? 'failed' : status
  if (stream) {
    const doublings = end.seconds >= STREAM_STEADY_SECONDS ? 0 : Math.min(slot.attempts - 1, 10)
    return { type: 'retry', status: failure, pauseMs: Math.min(STREAM_MOST_MS, STREAM_FIRST_MS * 2 ** doublings) }
  }
  const mayPass = timedOut || stopped || MAY_PASS.includes(exit)
  if (!mayPass || retries === undefined || slot.attempts >= retries.attempts)
    return { type: 'close', status: failure, ok: false }
  const pauseMs = Math.min(retries.maxMs, retries.initialMs * 2 ** (slot.attempts - 1))
  return { type: 'retry', status: failure, pauseMs }
}
