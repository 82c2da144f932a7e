/** Calls that are tried again where their status says that it may help. */
import { setTimeout as delay } from 'node:timers/promises'
import { isGrpcStatus, refusalOf } from './errors.ts'

export interface RetryPolicy {
  readonly attempts: number
  readonly initialMs: number
  readonly maxMs: number
  /** A pause beyond this, which the server asks for, is not waited for. */
  readonly patienceMs: number
}

/** `attempt` says where it got further: failures are counted anew from there. @throws AdflowError SOURCE_… of the last one */
export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal,
  what: string,
  attempt: (progress: () => void) => Promise<T>,
): Promise<T> {
  for (let failures = 0; ; ) {
    try {
      return await attempt(() => {
        failures = 0
      })
    } catch (error) {
      signal.throwIfAborted()
      if (!isGrpcStatus(error)) throw error
      const refusal = refusalOf(error, what)
      failures += 1
      const { again, afterMs = pauseMs(failures, policy) } = refusal
      if (!again || failures >= policy.attempts || afterMs < 0 || afterMs > policy.patienceMs) throw refusal.error
      await delay(afterMs, undefined, { signal })
    }
  }
}

/** Doubled each time, and scattered, so that several do not come back at once. */
function pauseMs(failures: number, { initialMs, maxMs }: RetryPolicy): number {
  return Math.min(maxMs, initialMs * 2 ** (failures - 1)) * (0.5 + Math.random() / 2)
}
