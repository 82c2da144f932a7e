import { expect, it } from 'vitest'
import type { Ledger } from '../../src/lineage/ledger.ts'
import { memorySaver } from '../../src/runtime/memory-saver.ts'
import { OpenGaps } from '../../src/runtime/open-gaps.ts'
import { emptySummary, forgetRepaid, newSource } from '../../src/runtime/summary.ts'

it('a gap is closed once when the position has passed it, and not before', async () => {
  const saver = memorySaver()
  const closed: unknown[] = []
  const told: string[] = []
  const ledger = {
    append: async (events: readonly { readonly type: string; readonly lane: string; readonly from: string }[]) => {
      for (const { type, lane, from } of events) if (type === 'gap_closed') closed.push([lane, from])
    },
  } as unknown as Ledger
  const gaps = new OpenGaps({ saver, ledger, lasting: true, closed: ({ lane }) => told.push(lane) }, [
    { source: 's', lane: 'a', from: '5', to: '8' },
    { source: 's', lane: 'b', from: '3' },
  ])
  const at = (lane: string, position: string) =>
    saver.update((draft) => {
      draft.sources['s'] = { ...draft.sources['s'], [lane]: { at: position } }
    })
  await at('a', '7')
  await at('b', '3')
  await gaps.passed('s')
  expect(closed).toEqual([])
  await at('a', '8')
  // Two batches that are through at the same time.
  await Promise.all([gaps.passed('s'), gaps.passed('s')])
  expect(closed).toEqual([['a', '5']])
  await at('b', '4')
  await gaps.passed('s')
  expect(closed).toEqual([
    ['a', '5'],
    ['b', '3'],
  ])
  expect(gaps.owes('s')).toBe(false)
  expect(told).toEqual(['a', 'b'])
})

it('what a run has repaid is no gap of it, and what is lost stays one', () => {
  const summary = emptySummary('r', 'j', [], new Date(0))
  const gap = (lane: string, code: string, to?: string) =>
    summary.gaps.push({
      source: 's',
      lane,
      from: '3',
      ...(to === undefined ? {} : { to }),
      code,
      message: '',
      optional: false,
    })
  summary.sources['s'] = { ...newSource(), gaps: 4 }
  gap('away', 'SOURCE_UNREADABLE')
  gap('away in a planned range', 'SOURCE_UNREADABLE', '5')
  gap('mended', 'SOURCE_DAMAGED', '5')
  gap('lost', 'SOURCE_CHANGED', '5')
  for (const { lane } of [...summary.gaps]) forgetRepaid(summary, { source: 's', lane, from: '3' })
  expect(summary.gaps).toMatchObject([{ lane: 'lost' }])
  expect(summary.sources['s'].gaps).toBe(1)
  forgetRepaid(summary, { source: 's', lane: 'lost', from: '4' })
  expect(summary.gaps).toHaveLength(1)
})
