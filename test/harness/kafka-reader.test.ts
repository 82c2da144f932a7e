import { createRequire } from 'node:module'
import { expect, it, vi } from 'vitest'
import './kafka-reader.ts'

it('lets kafkajs wait for no time that has passed, of which Node.js would warn', () => {
  const Queue = createRequire(import.meta.url)('kafkajs/src/network/requestQueue')
  const logger = { namespace: () => ({ debug: () => undefined }) }
  const queue = new Queue({ maxInFlightRequests: 1, logger, isConnected: () => true })
  const waits = vi.spyOn(globalThis, 'setTimeout').mockReturnValue(0 as never)
  queue.scheduleCheckPendingRequests()
  queue.throttledUntil = Date.now() + 60_000
  queue.throttleCheckTimeoutId = null
  queue.scheduleCheckPendingRequests()
  const [first, second] = waits.mock.calls.map(([, ms]) => Number(ms))
  waits.mockRestore()
  expect(first).toBeGreaterThan(-1000) // the clock may go on in between
  expect(second).toBeGreaterThan(50_000)
})
