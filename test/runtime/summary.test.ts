import { expect, it } from 'vitest'
import { addWarning, emptySummary } from '../../src/runtime/summary.ts'

it('a run that never ends keeps the first warnings, and says that there were more', () => {
  const summary = emptySummary('r', 'j', [], new Date())
  for (let number = 0; number < 5000; number += 1) addWarning(summary, `warning ${number}`)
  expect(summary.warnings).toHaveLength(1001)
  expect([summary.warnings[0], summary.warnings.at(-1)]).toEqual([
    'warning 0',
    expect.stringContaining('more warnings'),
  ])
})
