/** Asks a source again where that may help. An answer of which some was kept counts as a success: a long one may break off more often than it may fail. */
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'
import { duration } from '../../core/job/units.ts'

export const retryOptions = z
  .strictObject({
    attempts: z
      .int()
      .min(1)
      .default(5)
      .describe('How often the same is asked for before it is a gap. What brings a page begins the count anew.'),
    initial: duration.prefault('500ms').describe('Pause after the first failure; doubled each time.'),
    max: duration.prefault('30s').describe('Longest pause.'),
  })
  .describe('No answer, a broken one, and a server that is overloaded are tried again.')

export type RetryOptions = z.infer<typeof retryOptions>

/** `once` calls `progressed` when something was kept. @throws AdflowError the last one */
export async function persistently<T>(
  { attempts, initial, max }: RetryOptions,
  signal: AbortSignal,
  once: (progressed: () => void) => Promise<T>,
): Promise<T> {
  let failed = 0
  for (;;) {
    signal.throwIfAborted()
    try {
      return await once(() => {
        failed = 0
      })
    } catch (error) {
      signal.throwIfAborted()
      failed += 1
      if (!mayPass(error) || failed >= attempts) throw error
      const pauseMs = Math.min(max, initial * 2 ** (failed - 1))
      await delay(pauseMs * (0.5 + Math.random() / 2), undefined, { signal }) // not all lanes at once
    }
  }
}

function mayPass(error: unknown): boolean {
  return error instanceof AdflowError && (error.code === 'SOURCE_UNREADABLE' || error.code === 'SOURCE_DAMAGED')
}
