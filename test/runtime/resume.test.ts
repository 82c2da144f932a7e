import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { StoreRecord } from '../../src/core/contracts.ts'
import { comparePositions } from '../../src/core/positions.ts'
import { epochOf, tokenOf } from '../../src/core/token.ts'
import { batchesAhead, batchTokens, sinceOf } from '../../src/runtime/resume.ts'

const job = { name: 'j' }

function record(
  from: string,
  to: string,
  { epoch = '0', output, clock }: Partial<Record<'epoch' | 'output' | 'clock', string>> = {},
): StoreRecord {
  const range = { lane: 'a', from, to }
  const token = tokenOf({ job: 'j', source: 's', range, epoch, ...(output === undefined ? {} : { output }) })
  return { token, source: 's', range, digest: 'd', rows: 1, ...(clock === undefined ? {} : { clock }) }
}

function ahead(at: string | undefined, planned: readonly [string, string][], ...histories: StoreRecord[][]) {
  return found({ at, planned, histories, doubtful: false })
}

function found({
  at,
  planned,
  histories,
  doubtful,
}: {
  at: string | undefined
  planned: readonly [string, string][]
  histories: StoreRecord[][]
  doubtful: boolean
}) {
  const sources = at === undefined ? {} : { s: { a: { at } } }
  const plans = planned.map(([from, to]) => ({ source: 's', lane: 'a', from, to, sequence: '1', clock: 'c' }))
  return batchesAhead({ sources, planned: plans }, histories, doubtful).map(({ from, to, clock }) =>
    [from, to, clock].filter(Boolean).join(' '),
  )
}

describe('batches that stores have past the checkpoint', () => {
  it.each<[what: string, found: string[], expected: string[]]>([
    ['nothing past it', ahead('20', [], [record('0', '10'), record('10', '20')]), []],
    [
      'ranges that follow on, under the clock that the store keeps',
      ahead('10', [], [record('10', '20', { clock: 'then' }), record('20', '30')]),
      ['10 20 then', '20 30'],
    ],
    ['of several stores', ahead('10', [], [record('10', '20')], [record('20', '30')]), ['10 20', '20 30']],
    ['what is planned already', ahead('10', [['10', '20']], [record('10', '20'), record('20', '30')]), ['20 30']],
    ['a lane without a position', ahead(undefined, [], [record('0', '10')]), ['0 10']],
    [
      'a later batch whose forerunner no store has: the hole is cut exactly, too',
      ahead('10', [], [record('30', '40')]),
      ['10 30', '30 40'],
    ],
    ['a hole before a planned range', ahead('10', [['20', '30']], [record('30', '40')]), ['10 20', '30 40']],
    [
      'positions of several digits, as numbers',
      ahead('9', [], [record('9', '10'), record('10', '100')]),
      ['9 10', '10 100'],
    ],
  ])('%s', (_, found, expected) => {
    expect(found).toEqual(expected)
  })
})

it('are the same where stores tell only of what is not before the position of its lane and the plans from there on', () => {
  const place = fc.integer({ min: 0, max: 12 })
  const range = fc
    .tuple(place, fc.integer({ min: 1, max: 4 }))
    .map(([from, more]): [string, string] => [`${from}`, `${from + more}`])
  fc.assert(
    fc.property(
      fc.option(place, { nil: undefined }),
      fc.array(range),
      fc.array(fc.array(range)),
      (at, planned, stores) => {
        const position = at === undefined ? undefined : `${at}`
        const plans = planned.map(([from, to]) => ({ source: 's', lane: 'a', from, to, sequence: '1', clock: 'c' }))
        const since = sinceOf({ sources: position === undefined ? {} : { s: { a: { at: position } } }, planned: plans })
        const all = stores.map((ranges) => ranges.map(([from, to]) => record(from, to)))
        const some = all.map((own) => own.filter((one) => comparePositions(one.range.from, since('s', 'a') ?? '') >= 0))
        expect(ahead(position, planned, ...some)).toEqual(ahead(position, planned, ...all))
      },
    ),
  )
})

it('what a backfill has loaded of a lane without a position makes no hole of what lies before, unless plans may be lost', () => {
  const part = { at: undefined, planned: [], histories: [[record('50', '60')]] }
  expect(found({ ...part, doubtful: false })).toEqual([])
  expect(found({ ...part, doubtful: true })).toEqual(['0 50', '50 60'])
})

describe('the batch behind a record of a store', () => {
  it('is found under its epoch, and under the output that the store reads', () => {
    const main = tokenOf({ job: 'j', source: 's', range: { lane: 'a', from: '0', to: '10' }, epoch: '2' })
    expect(epochOf(job.name, 'main', record('0', '10', { epoch: '2' }))).toBe(2n)
    expect(batchTokens(job, 'main', record('0', '10', { epoch: '2' }), '3')).toEqual([main])
    expect(batchTokens(job, 'sums', record('0', '10', { epoch: '2', output: 'sums' }), '3')).toEqual([main])
  })

  it('may be any where the store read another output then', () => {
    expect(batchTokens(job, 'main', record('0', '10', { output: 'sums' }), '1')).toHaveLength(2)
    expect(epochOf(job.name, 'main', record('0', '10', { output: 'sums' }))).toBeUndefined()
  })
})
