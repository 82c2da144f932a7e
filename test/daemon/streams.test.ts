import { describe, expect, it } from 'vitest'
import { SchedulerSite } from '../harness/scheduler.ts'

const ENDED = { exit: 0, seconds: 1, status: 'done' }
const act = { who: 'ann', why: 'test', at: '2026-03-01T00:00:00.000Z' }

describe('a job in shards', () => {
  const SHARDED = { until: 'forever', shards: 4 }

  async function leadWith(jobs: Readonly<Record<string, object>>, mine: Set<number>) {
    const site = await SchedulerSite.make('2026-03-01T00:00:00Z')
    site.setJobs(jobs)
    const led = await site.lead({ shares: { of: () => mine, pausedOf: () => null } })
    const shards = () =>
      led.scheduler.active
        .map(({ slot }) => slot.shard)
        .filter(Boolean)
        .sort()
    const slotOf = (shard: string) => led.scheduler.active.find(({ slot }) => slot.shard === shard)?.slot.id ?? ''
    return { site, led, shards, slotOf, [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() }
  }

  it('has a run of each part that is this daemon’s, and of no other', async () => {
    await using flow = await leadWith({ flow: SHARDED }, new Set([1, 3]))
    await flow.led.tick()
    expect(flow.shards()).toEqual(['1/4', '3/4'])
  })

  it('gives up one part without stopping the others, and takes it again only after its run has ended', async () => {
    const mine = new Set([0, 1, 2])
    await using flow = await leadWith({ flow: SHARDED }, mine)
    await flow.led.tick()
    const moved = flow.slotOf('1/4')
    mine.delete(1)
    await flow.led.tick()
    expect(flow.led.runs.stopped).toEqual([moved])
    mine.add(1)
    await flow.led.tick(10_000)
    expect(flow.led.runs.started).toHaveLength(3)
    await flow.led.end(moved, ENDED)
    expect(flow.led.last('flow')).toMatchObject({ status: 'done', shard: '1/4' })
    expect(flow.shards()).toEqual(['0/4', '1/4', '2/4'])
    expect(flow.led.runs.started).toHaveLength(4)
  })

  it('that another daemon has taken over, or still has, is asked for again soon, and not counted as failed', async () => {
    await using flow = await leadWith({ flow: SHARDED }, new Set([0]))
    await flow.led.tick()
    for (const code of ['FENCED', 'JOB_LOCKED'] as const) {
      const slot = flow.slotOf('0/4')
      await flow.led.end(slot, { exit: 77, seconds: 1, status: 'failed', code })
      expect(flow.shards()).toEqual([])
      await flow.led.tick(1_001)
      expect(flow.shards()).toEqual(['0/4'])
    }
    expect(flow.led.journal.book.job('flow').open.map(({ attempts }) => attempts)).toEqual([1])
  })

  it('whose number has changed begins anew when all of its parts have ended', async () => {
    const mine = new Set([0, 1])
    await using flow = await leadWith({ flow: SHARDED }, mine)
    await flow.led.tick()
    const [first, second] = [flow.slotOf('0/4'), flow.slotOf('1/4')]
    flow.site.setJobs({ flow: { ...SHARDED, shards: 2 } })
    await flow.led.tick()
    await flow.led.end(first, ENDED)
    await flow.led.tick(60_000)
    expect(flow.shards()).toEqual(['1/4'])
    await flow.led.end(second, ENDED)
    expect(flow.shards()).toEqual(['0/2', '1/2'])
  })

  it('is paused and resumed whole, and restarted part by part', async () => {
    await using flow = await leadWith({ flow: SHARDED }, new Set([0, 1]))
    await flow.led.tick()
    await flow.led.end(flow.slotOf('0/4'), { exit: 69, seconds: 1, status: 'owed' })
    expect(flow.shards()).toEqual(['1/4'])
    await flow.led.tick(1_001)
    expect(flow.shards()).toEqual(['0/4', '1/4'])
    const paused = flow.led.scheduler.setPaused('flow', act, true)
    await flow.led.tick()
    await paused
    await flow.led.tick()
    expect(flow.led.runs.stopped.sort()).toEqual([flow.slotOf('0/4'), flow.slotOf('1/4')].sort())
  })
})
