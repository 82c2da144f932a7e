/** Tries again what a server broke off. */
import { setTimeout as delay } from 'node:timers/promises'
import { AdflowError } from '../../../core/errors.ts'
import type { SourceOptions } from './options.ts'

/** `attempt` says whether it came on: then the attempts before it do not count. */
export async function again(
  { attempts, initial, max }: SourceOptions['retry'],
  signal: AbortSignal,
  attempt: () => Promise<void>,
  cameOn: () => boolean,
): Promise<void> {
  let failed = 0
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (signal.aborted || !(error instanceof AdflowError) || error.code !== 'SOURCE_UNREADABLE') throw error
      failed = cameOn() ? 1 : failed + 1
      if (failed >= attempts) throw error
      await delay(Math.min(max, initial * 2 ** (failed - 1)), undefined, { signal })
    }
  }
}
