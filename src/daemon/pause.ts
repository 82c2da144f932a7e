/** Resolves after so long, or when the signal is aborted. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}

/** What `asked` gives, where it does so within `ms`; else what `otherwise` says. It goes on, and what becomes of it is nobody's business then. */
export async function within<T>(ms: number, asked: Promise<T>, otherwise: () => T): Promise<T> {
  const { promise, resolve } = Promise.withResolvers<T>()
  const timer = setTimeout(() => resolve(otherwise()), ms)
  asked.catch(() => undefined)
  return Promise.race([asked, promise]).finally(() => clearTimeout(timer))
}
