import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Tracker } from '../../src/runtime/tracker.ts'

const range = (from: number, to: number, lane = 'l') => ({ lane, from: String(from), to: String(to) })

test('the position waits for the earliest open range, and then jumps over all that finished', () => {
  const tracker = new Tracker({ l: { at: '0', mark: 'm0' } })
  for (const [from, to] of [
    [0, 10],
    [10, 20],
    [20, 30],
  ] as const)
    tracker.start({ ...range(from, to), mark: `m${to}` })
  expect(tracker.inFlight()).toBe(3)
  expect(tracker.finish(range(10, 20))).toEqual({ at: '0', mark: 'm0' })
  expect(tracker.open('l').map(({ to }) => to)).toEqual(['10', '20', '30'])
  expect(tracker.finish(range(0, 10))).toEqual({ at: '20', mark: 'm20' })
  expect(tracker.position('l')).toEqual({ at: '20', mark: 'm20' })
  expect(tracker.inFlight()).toBe(1)
  expect(tracker.open('l')).toEqual([{ ...range(20, 30), mark: 'm30' }])
})

test('lanes are independent; a lane without a position begins at its first range', () => {
  const tracker = new Tracker()
  tracker.start(range(7, 9, 'a'))
  tracker.start(range(0, 1, 'b'))
  expect(tracker.position('a')).toBeUndefined()
  tracker.finish(range(0, 1, 'b'))
  expect(tracker.position('a')).toBeUndefined()
  expect(tracker.position('b')).toEqual({ at: '1' })
  expect(tracker.position('c')).toBeUndefined()
  expect(tracker.open('c')).toEqual([])
})

test('positions are compared as numbers of any size', () => {
  const tracker = new Tracker({ l: { at: '9' } })
  tracker.start({ lane: 'l', from: '9', to: '10' })
  tracker.start({ lane: 'l', from: '10', to: '90071992547409930001' })
  tracker.finish({ lane: 'l', from: '9', to: '10' })
  expect(tracker.finish({ lane: 'l', from: '10', to: '90071992547409930001' })).toEqual({ at: '90071992547409930001' })
})

test.each([
  [
    'overlaps the one before',
    [
      [5, 10],
      [8, 15],
    ],
    /overlaps or comes late/,
  ],
  [
    'repeats the one before',
    [
      [5, 10],
      [5, 10],
    ],
    /overlaps or comes late/,
  ],
  [
    'comes out of order',
    [
      [5, 10],
      [10, 20],
      [6, 7],
    ],
    /overlaps or comes late/,
  ],
  [
    'leaves a hole',
    [
      [5, 10],
      [11, 20],
    ],
    /leaves a hole/,
  ],
  ['leaves a hole after the checkpoint', [[6, 10]], /leaves a hole/],
  ['is behind the checkpoint', [[4, 10]], /overlaps or comes late/],
  ['is empty', [[5, 5]], /is empty/],
  ['runs backwards', [[20, 10]], /is empty or ends before/],
] as const)('a range that %s is refused', (_what, ranges, message) => {
  const tracker = new Tracker({ l: { at: '5' } })
  const legal = ranges.slice(0, -1)
  for (const [from, to] of legal) tracker.start(range(from, to))
  for (const [from, to] of ranges.slice(-1)) expect(() => tracker.start(range(from, to))).toThrow(message)
  expect(tracker.inFlight()).toBe(legal.length)
})

test('finishing what is not in flight, or twice, is refused', () => {
  const tracker = new Tracker({ l: { at: '0' } })
  tracker.start(range(0, 10))
  tracker.start(range(10, 20))
  expect(() => tracker.finish(range(0, 9))).toThrow(/not in flight/)
  expect(() => tracker.finish(range(0, 10, 'other'))).toThrow(/not in flight/)
  tracker.finish(range(10, 20))
  expect(() => tracker.finish(range(10, 20))).toThrow(/twice/)
  tracker.finish(range(0, 10))
  expect(() => tracker.finish(range(0, 10))).toThrow(/not in flight/)
})

test('agrees with a plain model under any order of starts and finishes', () => {
  const step = fc.record({ lane: fc.constantFrom('a', 'b'), size: fc.integer({ min: 1, max: 5 }), pick: fc.nat() })
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), step), { maxLength: 200 }), (steps) => {
      const tracker = new Tracker({ a: { at: '0' }, b: { at: '0' } })
      const model = new Map<string, { from: number; to: number; finished: boolean }[]>([
        ['a', []],
        ['b', []],
      ])
      for (const [begin, { lane, size, pick }] of steps) {
        const ranges = model.get(lane) ?? []
        if (begin) {
          const from = ranges.at(-1)?.to ?? 0
          ranges.push({ from, to: from + size, finished: false })
          tracker.start(range(from, from + size, lane))
        } else {
          const open = ranges.filter(({ finished }) => !finished)
          const chosen = open[pick % Math.max(open.length, 1)]
          if (chosen === undefined) continue
          chosen.finished = true
          tracker.finish(range(chosen.from, chosen.to, lane))
        }
        const firstOpen = ranges.find(({ finished }) => !finished)
        expect(tracker.position(lane)).toEqual({ at: String(firstOpen?.from ?? ranges.at(-1)?.to ?? 0) })
        const all = [...model.values()].flat()
        expect(tracker.inFlight()).toBe(all.filter(({ finished }) => !finished).length)
      }
    }),
    { numRuns: 200 },
  )
})
