import { describe, expect, it } from 'vitest'
import { brokenBound } from '../../src/runtime/conclusion.ts'

describe('a rule on the rows of a run', () => {
  it.each<[what: string, read: number, passed: number, interrupted: boolean, found: string | undefined]>([
    ['holds within its bounds', 8, 5, false, undefined],
    ['does not hold below', 8, 1, false, 'rule r does not hold: 1 rows passed, expected 2 to 6'],
    ['does not hold above', 8, 7, true, 'rule r does not hold: 7 rows passed, expected 2 to 6'],
    [
      'does not hold where everything was rejected',
      8,
      0,
      false,
      'rule r does not hold: 0 rows passed, expected 2 to 6',
    ],
    ['is not asked where nothing new was read', 0, 0, false, undefined],
    ['asks for no minimum of a run that was cut short', 8, 1, true, undefined],
  ])('%s', (_, read, passed, interrupted, found) => {
    expect(brokenBound({ id: 'r', min: 2, max: 6 }, read, passed, interrupted)).toBe(found)
  })

  it('names the bounds that it has', () => {
    const text = brokenBound({ id: 'r', min: 2, max: undefined }, 1, 1)
    expect(text).toMatch(/expected 2 to any number$/)
    expect(brokenBound({ id: 'r', min: undefined, max: 1 }, 2, 2)).toMatch(/expected 0 to 1$/)
  })
})
