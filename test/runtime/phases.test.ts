import { expect, it } from 'vitest'
import { Phases } from '../../src/runtime/phases.ts'

it('tells how long most batches were in a phase, and how long the slowest was', () => {
  const phases = new Phases()
  for (let ms = 1; ms <= 1000; ms += 1) phases.add('refine', ms)
  phases.add('ledger', 0)
  const { refine, ledger } = phases.timings()
  expect(refine).toMatchObject({ batches: 1000, mean_ms: 500.5, max_ms: 1000 })
  expect(refine?.p50_ms).toBeGreaterThanOrEqual(500)
  expect(refine?.p50_ms).toBeLessThan(560)
  expect(refine?.p99_ms).toBeGreaterThanOrEqual(990)
  expect(ledger).toEqual({ batches: 1, mean_ms: 0, p50_ms: 0, p99_ms: 0, max_ms: 0 })
})

it('counts work that fails, too', async () => {
  const phases = new Phases()
  await expect(phases.measure('stores', () => Promise.reject(new Error('down')))).rejects.toThrow('down')
  expect(phases.timings()['stores']?.batches).toBe(1)
})
