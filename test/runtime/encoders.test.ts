import { expect, it } from 'vitest'
import type { Job } from '../../src/core/job/job.ts'
import type { Engine } from '../../src/engine/session.ts'
import { Encoders, encodersOf } from '../../src/runtime/encoders.ts'

it.each([
  { threads: 1, inFlight: 3, encoders: 1 },
  { threads: 2, inFlight: 1, encoders: 1 },
  { threads: 2, inFlight: 2, encoders: 1 },
  { threads: 2, inFlight: 3, encoders: 2 },
  { threads: 4, inFlight: 2, encoders: 2 },
  { threads: 4, inFlight: 9, encoders: 4 },
])(
  'encodes $encoders chunks at a time with $threads threads and $inFlight batches under way',
  ({ encoders, ...resources }) => {
    expect(encodersOf(resources)).toBe(encoders)
  },
)

it('gives each chunk a thread from the first time that two are there, and not before', async () => {
  const shared: number[] = []
  const engine = { shareAmong: async (batches: number) => void shared.push(batches) } as unknown as Engine
  const encoders = new Encoders(engine, { threads: 2, inFlight: 3 } as Job['resources'])
  const second = Promise.withResolvers<void>()
  await encoders.with(() => encoders.share())
  expect(shared).toEqual([])
  const first = encoders.with(() => second.promise)
  await encoders.with(() => encoders.share())
  await encoders.with(() => encoders.share())
  second.resolve()
  await first
  expect(shared).toEqual([2])
})
