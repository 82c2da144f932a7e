/** Waits for what a cluster does in its own time: a coordinator that loads, a transaction that is still being completed. */
import { setTimeout as sleep } from 'node:timers/promises'
import { kafkaErrorName } from './errors.ts'

/** Answers by which a broker says that it has done nothing yet, and will soon. */
const SOON = new Set([
  'COORDINATOR_LOAD_IN_PROGRESS',
  'COORDINATOR_NOT_AVAILABLE',
  'CONCURRENT_TRANSACTIONS',
  'LEADER_NOT_AVAILABLE',
])
const FIRST_PAUSE_MS = 5
const LONGEST_PAUSE_MS = 250

/** Answers to who has asked a broker that does not lead the partition any more, or does not know of it yet. */
export const MOVED: readonly string[] = [
  'NOT_LEADER_OR_FOLLOWER',
  'FENCED_LEADER_EPOCH',
  'UNKNOWN_LEADER_EPOCH',
  'UNKNOWN_TOPIC_ID',
]

/** `work`, again and again while the answer is one of SOON, or of `also`. Rejects with the last answer after `limitMs`. */
export async function patiently<T>(work: () => Promise<T>, limitMs: number, also: readonly string[] = []): Promise<T> {
  const until = performance.now() + limitMs
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      return await work()
    } catch (error) {
      const name = kafkaErrorName(error)
      if (name === undefined || !(SOON.has(name) || also.includes(name)) || performance.now() > until) throw error
      await sleep(pauseMs)
    }
  }
}
