import { describe, expect, it } from 'vitest'
import type { StoreRecord } from '../../src/core/contracts.ts'
import { notSuperseded, rebuild } from '../../src/runtime/rebuild.ts'

function store(...ranges: readonly [from: string, to: string, clock?: string][]): StoreRecord[] {
  return ranges.map(([from, to, clock]) => {
    const range = { lane: 'a', from, to }
    return {
      token: `${from}-${to}`,
      source: 's',
      range,
      digest: 'd',
      rows: 1,
      ...(clock === undefined ? {} : { clock }),
    }
  })
}

function rebuilt(...histories: StoreRecord[][]) {
  const { sources, planned, holes } = rebuild(histories, 'now')
  return {
    at: sources['s']?.['a']?.at,
    planned: planned.map(({ from, to, clock }) => `${from} ${to} ${clock}`),
    holes: holes.map(({ from, to }) => `${from} ${to}`),
  }
}

describe('positions from what stores remember', () => {
  it('pass what every store has', () => {
    expect(rebuilt(store(['10', '20'], ['0', '10']), store(['0', '10'], ['10', '20']))).toEqual({
      at: '20',
      planned: [],
      holes: [],
    })
  })

  it('stop before the first range that some store lacks; all behind it is planned under its own clock', () => {
    expect(rebuilt(store(['0', '10'], ['10', '20', 'then'], ['20', '30']), store(['0', '10'], ['20', '30']))).toEqual({
      at: '10',
      planned: ['10 20 then', '20 30 now'],
      holes: [],
    })
  })

  it('stop before a hole that a batch left which was overtaken by the next, and plan the hole', () => {
    expect(rebuilt(store(['0', '10'], ['20', '30']))).toEqual({
      at: '10',
      planned: ['10 20 now', '20 30 now'],
      holes: ['10 20'],
    })
    expect(rebuilt(store(['20', '30']))).toEqual({ at: undefined, planned: ['0 20 now', '20 30 now'], holes: ['0 20'] })
  })

  it('pass what a store knows as a whole only, cut where batches of the others end', () => {
    const whole: StoreRecord = { ...(store(['0', '30'])[0] as StoreRecord), folded: 3 }
    const batches = store(['0', '10'], ['10', '20', 'then'], ['20', '30'])
    expect(rebuilt([whole], [whole])).toEqual({ at: '30', planned: [], holes: [] })
    expect(rebuilt(batches, [whole, ...store(['30', '40'])])).toEqual({ at: '30', planned: ['30 40 now'], holes: [] })
    expect(rebuilt(batches.slice(0, 2), [whole])).toEqual({ at: '20', planned: ['20 30 now'], holes: [] })
    expect(rebuilt(batches, [{ ...whole, range: { lane: 'a', from: '0', to: '10' } }])).toEqual({
      ...{ at: '10', planned: ['10 20 then', '20 30 now'], holes: [] },
    })
  })

  it('need no time that grows with the square of the batches', () => {
    const many = store(
      ...Array.from({ length: 50_000 }, (_, i) => [String(i * 10), String(i * 10 + 10)] as [string, string]),
    )
    expect(rebuilt(many, many).at).toBe('500000')
  })
})

it('of a source that cannot be read again, ranges of an earlier epoch end where its lane was put back to', () => {
  const range = (epoch: bigint, from: string, to: string, lane = 'l') => ({
    ...{ epoch, token: `${epoch} ${from}`, source: 's', range: { lane, from, to }, digest: '', rows: 1 },
  })
  const kept = notSuperseded(
    [
      range(0n, '0', '100'),
      range(0n, '100', '200'),
      range(0n, '200', '300'),
      range(2n, '100', '170'),
      range(2n, '170', '260'),
      range(0n, '0', '50', 'm'),
      range(2n, '50', '70', 'm'),
    ],
    ({ epoch }) => epoch,
  )
  expect(kept.map(({ token, range: { lane } }) => `${lane} ${token}`).sort()).toEqual([
    'l 0 0',
    'l 2 100',
    'l 2 170',
    'm 0 0',
    'm 2 50',
  ])
})
