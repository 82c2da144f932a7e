import { describe, expect, it } from 'vitest'
import { AdflowError } from '../../src/core/errors.ts'
import { BrokenLanes, isSourceFault } from '../../src/runtime/broken-lanes.ts'
import type { PlannedBatch } from '../../src/runtime/checkpoint-slot.ts'

const damage = new AdflowError('SOURCE_DAMAGED', 'a page is broken')

function plan(sequence: string, lane: string): PlannedBatch {
  return { source: 's', lane, from: sequence, to: `${sequence}0`, sequence, clock: '2026-01-01T00:00:00Z' }
}

function sequences(broken: BrokenLanes, plans: readonly PlannedBatch[]): string[] {
  return broken.binding(plans).map(({ sequence }) => sequence)
}

describe('broken lanes', () => {
  it('stop what comes at and after the damage, and nothing before it', () => {
    const broken = new BrokenLanes()
    const at = (from: string, source = 's') => ({ source, lane: 'a', from })
    expect([broken.none, broken.get(at('20'))]).toEqual([true, undefined])
    expect(broken.add(at('20'), damage)).toBe(true)
    expect(broken.add(at('100'), new AdflowError('SOURCE_CHANGED', 'later'))).toBe(false)
    expect([broken.none, broken.get(at('20')), broken.get(at('100'))]).toEqual([false, damage, damage])
    expect([broken.get(at('9')), broken.get(at('20', 't'))]).toEqual([undefined, undefined])
    const earlier = new AdflowError('SOURCE_DAMAGED', 'found later, but stands before')
    expect(broken.add(at('9'), earlier)).toBe(true)
    expect(broken.get(at('20'))).toBe(earlier)
  })

  it('let go of edges that no store has seen, and of no others', () => {
    const broken = new BrokenLanes()
    for (const sequence of ['1', '2', '3', '4', '5']) broken.planned(sequence)
    const plans = [
      plan('1', 'a'),
      plan('2', 'a'),
      plan('3', 'b'),
      plan('4', 'b'),
      plan('5', 'whole'),
      plan('0', 'older'),
    ]
    for (const lane of ['a', 'b', 'older']) broken.add({ source: 's', lane, from: '0' }, damage)
    broken.offered('4')
    expect(sequences(broken, plans)).toEqual(['3', '4', '5', '0'])
  })
})

describe('a fault of a source', () => {
  it.each([
    ['SOURCE_DAMAGED', true],
    ['SOURCE_CHANGED', true],
    ['ENGINE_FAILED', false],
    ['DISK_FULL', false],
  ] as const)('%s: %s', (code, expected) => {
    expect(isSourceFault(new AdflowError(code, 'x'))).toBe(expected)
    expect(isSourceFault(new Error('x'))).toBe(false)
  })
})
