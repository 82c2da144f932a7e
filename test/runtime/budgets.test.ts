import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Budget, Job } from '../../src/core/job/job.ts'
import { Budgets } from '../../src/runtime/budgets.ts'

const START = Date.UTC(2026, 0, 1)

beforeEach(() => {
  vi.useFakeTimers({ now: START })
})
afterEach(() => {
  vi.useRealTimers()
})

function budgets(budget: Partial<Budget>, memory?: unknown): Budgets {
  const whole = { ratio: 0.1, per: 'run', minRows: 0, onExhausted: 'fail', path: [], ...budget } as Budget
  const extra = memory === undefined ? {} : { budget: memory }
  return new Budgets(
    { budgets: [whole] } as unknown as Job,
    { state: { epoch: '0', sequence: '1', sources: {}, planned: [], extra } },
    () => undefined,
  )
}

const batch = (read: number, rejected: number) => ({
  read,
  quarantined: { rule: rejected },
  filtered: {},
  deduplicated: 0,
  warned: {},
})

describe('an error budget', () => {
  it('per run adds up what all batches rejected', () => {
    const own = budgets({})
    own.charge(batch(100, 10))
    expect(() => own.charge(batch(10, 2))).toThrow(/12 of 110 records of this run were rejected/)
  })

  it('over a time forgets what is older', () => {
    const own = budgets({ per: 1000 })
    own.charge(batch(100, 10))
    vi.advanceTimersByTime(1500)
    own.charge(batch(10, 1))
    expect(() => own.charge(batch(10, 2))).toThrow(/3 of 20 records of the last 1 s were rejected/)
  })

  it('over a time goes on from what earlier runs have used', () => {
    const first = budgets({ per: 60_000 })
    first.charge(batch(100, 10))
    expect(() => budgets({ per: 60_000 }, first.memory()['budget']).charge(batch(1, 1))).toThrow(/11 of 101/)
  })

  it('keeps no more than a thousand parts, however many batches there are, and none of them is lost', () => {
    const own = budgets({ per: 10_000, ratio: 1 })
    for (let i = 0; i < 100_000; i += 1) {
      if (i % 10 === 0) vi.advanceTimersByTime(1)
      own.charge(batch(1, 0))
    }
    const memory = own.memory()['budget'] as readonly (readonly [number, number, number])[]
    expect(memory.length).toBeLessThanOrEqual(1001)
    expect(memory.reduce((total, [, read]) => total + read, 0)).toBeGreaterThanOrEqual(99_900)
  })
})
