import { expect, it } from 'vitest'
import { type StallOptions, StallWatch } from '../../src/runtime/stall-watch.ts'

function watched(more: Partial<StallOptions> = {}) {
  const clock = { ms: 0 }
  const told: string[] = []
  const watch = new StallWatch({
    source: 'events',
    afterMs: 60_000,
    excused: () => false,
    renew: () => told.push('renewed'),
    fail: ({ code }) => told.push(code),
    now: () => clock.ms,
    ...more,
  })
  const passes = (seconds: number) => {
    clock.ms += seconds * 1000
    watch.look()
    return [...told]
  }
  return { watch, passes }
}

it('makes the connections of a source anew that has records and gives none, and ends the run when that does not help', () => {
  const { watch, passes } = watched()
  watch.behind(5)
  expect(passes(59)).toEqual([])
  expect(passes(1)).toEqual(['renewed'])
  expect(passes(59)).toEqual(['renewed'])
  expect(passes(1)).toEqual(['renewed', 'SOURCE_STALLED'])
})

it('begins anew with each sign of progress', () => {
  const { watch, passes } = watched()
  watch.behind(5)
  expect(passes(60)).toEqual(['renewed'])
  watch.progressed()
  expect(passes(60)).toEqual(['renewed', 'renewed'])
})

it('does not take for stalled what has nothing to read, what has a gap, and what never tells how much there is', () => {
  const idle = watched()
  for (let minute = 0; minute < 5; minute += 1) {
    idle.watch.behind(0)
    expect(idle.passes(59)).toEqual([])
  }
  const excused = watched({ excused: () => true })
  excused.watch.behind(5)
  expect(excused.passes(600)).toEqual([])
  expect(watched().passes(600)).toEqual([])
})

it('takes for stalled what does not even tell any more how much there is', () => {
  const { watch, passes } = watched()
  watch.behind(0)
  expect(passes(61)).toEqual(['renewed'])
})
