/** For work that should end when its signal is aborted, and may not. */
import { setTimeout as delay } from 'node:timers/promises'

const GRACE_MS = 2000

/** What the work comes to. Rejects with the reason of the signal where the work goes on for some time after it was aborted. */
export async function orGiveUp<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const over = new AbortController()
  const late = async (): Promise<never> => {
    await aborted(signal, over.signal)
    await delay(GRACE_MS, undefined, { signal: over.signal })
    throw signal.reason
  }
  const giving = late()
  giving.catch(() => undefined) // where the work has ended, nobody asks for it
  try {
    return await Promise.race([work, giving])
  } finally {
    over.abort()
    work.catch(() => undefined) // what it comes to later is nobody's
  }
}

/** Rejects where `over` comes first. */
function aborted(signal: AbortSignal, over: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return resolve()
    const done = new AbortController()
    const end = (settle: () => void) => () => {
      done.abort()
      settle()
    }
    signal.addEventListener('abort', end(resolve), { once: true, signal: done.signal })
    over.addEventListener(
      'abort',
      end(() => reject(over.reason)),
      { once: true, signal: done.signal },
    )
  })
}
