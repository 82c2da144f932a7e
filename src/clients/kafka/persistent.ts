/** Asks brokers again and again, for as long as the job has patience, while they are down or change who leads. */
import { setTimeout as sleep } from 'node:timers/promises'
import { isPassing } from './source-errors.ts'

export interface Patience {
  readonly patienceMs: number
  readonly signal: AbortSignal
}

const FIRST_PAUSE_MS = 20
const LONGEST_PAUSE_MS = 1000

/** `work` gets whether it is a repetition: then it must not believe what was known of the cluster. Rejects with its last error. */
export async function persistent<T>(
  work: (again: boolean) => Promise<T>,
  { patienceMs, signal }: Patience,
): Promise<T> {
  const until = performance.now() + patienceMs
  for (let pauseMs = FIRST_PAUSE_MS, again = false; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS), again = true) {
    try {
      return await unlessAborted(work(again), signal)
    } catch (error) {
      if (signal.aborted || !isPassing(error) || performance.now() > until) throw error
      await sleep(pauseMs, undefined, { signal })
    }
  }
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = () => reject(signal.reason)
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', stop)
    work.catch(() => undefined) // given up with the run
    promise.catch(() => undefined)
  }
}
