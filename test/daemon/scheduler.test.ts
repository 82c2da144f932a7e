import { describe, expect, it } from 'vitest'
import { readBook } from '../../src/daemon/journal.ts'
import { DONE, SchedulerSite } from '../harness/scheduler.ts'

const NOON = '2026-03-01T12:00:00.000Z'
const at = (job: string, time: string) => `${job}@2026-03-01T${time}.000Z`
const MINUTE = 60_000
const DOWN = { exit: 69, seconds: 1, status: 'owed', code: 'STORE_OWED', message: 'the store is down' }
const act = { who: 'ann', why: 'test', at: NOON }

describe('runs', () => {
  it('are no more at once than may be, the more urgent first, and one at a time of a job', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    const every = { cron: '* * * * *', overlap: 'queue_one' }
    site.setJobs({ low: { ...every, priority: 1 }, high: { ...every, priority: 90 }, middle: every })
    const led = await site.lead({ parallel: 2 })
    await led.tick()
    await led.tick(MINUTE)
    expect(led.runs.going).toEqual([at('high', '12:00:00'), at('middle', '12:00:00')])
    await led.tick(MINUTE)
    await led.end(at('middle', '12:00:00'))
    expect(led.runs.going).toEqual([at('high', '12:00:00'), at('middle', '12:01:00')])
    await led.end(at('high', '12:00:00'))
    await led.end(at('high', '12:01:00'))
    expect(led.runs.going).toEqual([at('middle', '12:01:00'), at('low', '12:00:00')])
  })

  it('that failed for a reason that may pass are repeated after growing pauses, and no longer than was said', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 12 * * *', retries: { attempts: 3, initial: '10s', max: '15s' } } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    const slot = at('job', '12:00:00')
    await led.end(slot, DOWN)
    await led.tick(9_000)
    expect(led.runs.going).toEqual([])
    await led.tick(1_000)
    await led.end(slot, DOWN)
    await led.tick(14_000)
    expect(led.runs.going).toEqual([])
    await led.tick(1_000)
    await led.end(slot, DOWN)
    expect(led.last('job')).toMatchObject({
      status: 'owed',
      ok: false,
      exit: 69,
      attempts: 3,
      message: 'the store is down',
    })
    expect(led.runs.started).toEqual([slot, slot, slot])
  })

  it.each([
    ['rejected data', { exit: 65, seconds: 1, status: 'rejected', code: 'DATA_REJECTED' }, 'rejected'],
    ['a wrong password', { exit: 77, seconds: 1, status: 'failed', code: 'STORE_DENIED' }, 'failed'],
    ['a damaged state', { exit: 78, seconds: 1, status: 'failed', code: 'STATE_DAMAGED' }, 'failed'],
  ])('that failed for %s are not repeated', async (_, end, status) => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 12 * * *' } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    await led.end(at('job', '12:00:00'), end)
    expect(led.last('job')).toMatchObject({ status, ok: false, attempts: 1 })
  })

  it('wait without being counted while another run holds the job', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 12 * * *', retries: { attempts: 1 } } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    const slot = at('job', '12:00:00')
    for (let round = 0; round < 3; round += 1) {
      await led.end(slot, { exit: 75, seconds: 0, status: 'failed', code: 'JOB_LOCKED' })
      await led.tick(5_000)
    }
    await led.end(slot)
    expect(led.last('job')).toMatchObject({ status: 'done', attempts: 1 })
  })

  it('that take too long are told to stop, by a clock that does not jump', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 12 * * *', timeout: '10m', retries: { attempts: 1 } } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    site.clock.set('2026-03-01T20:00:00Z')
    await led.tick(9 * MINUTE)
    expect(led.runs.stopped).toEqual([])
    await led.tick(MINUTE)
    expect(led.runs.stopped).toEqual([at('job', '12:00:00')])
    await led.end(at('job', '12:00:00'), { exit: 143, seconds: 600, status: 'interrupted' })
    expect(led.last('job')).toMatchObject({ status: 'timeout', ok: false })
  })

  it('give way to a later time where that is asked for', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '* * * * *', overlap: 'cancel_other' } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    await led.tick(MINUTE)
    expect(led.runs.stopped).toEqual([at('job', '12:00:00')])
    expect(led.runs.going).toEqual([at('job', '12:00:00')])
    await led.end(at('job', '12:00:00'), { exit: 143, seconds: 60, status: 'interrupted' })
    expect(led.last('job')).toMatchObject({ status: 'cancelled', ok: false })
    expect(led.runs.going).toEqual([at('job', '12:01:00')])
  })
})

describe('a job that waits for others', () => {
  it('runs once when all have ended well since its last run, under the newest of their times', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ hourly: { cron: '0 * * * *' }, half: { cron: '0,30 * * * *' }, sum: { after: ['hourly', 'half'] } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    await led.end(at('half', '12:00:00'))
    expect(led.runs.going).toEqual([at('hourly', '12:00:00')])
    await led.tick(30 * MINUTE)
    await led.end(at('half', '12:30:00'))
    await led.end(at('hourly', '12:00:00'))
    expect(led.runs.going).toEqual([at('sum', '12:30:00')])
    await led.end(at('sum', '12:30:00'))
    await led.tick(30 * MINUTE)
    await led.end(at('half', '13:00:00'))
    await led.end(at('hourly', '13:00:00'), { ...DONE, exit: 65, status: 'rejected' })
    expect(led.runs.going).toEqual([])
    expect(led.journal.book.job('sum').open).toEqual([])
  })

  it('has nothing to answer of what happened before it was there', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ first: { cron: '0 * * * *' } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    await led.end(at('first', '12:00:00'))
    site.setJobs({ first: { cron: '0 * * * *' }, second: { after: ['first'] } })
    await led.tick()
    expect(led.runs.going).toEqual([])
    await led.tick(60 * MINUTE)
    await led.end(at('first', '13:00:00'))
    expect(led.runs.going).toEqual([at('second', '13:00:00')])
  })
})

describe('people', () => {
  it('ask for a run now, pause a job and let it go on; all of it outlives the daemon', async () => {
    await using site = await SchedulerSite.make(NOON)
    site.setJobs({ job: { cron: '0 * * * *' }, asked: undefined })
    const led = await site.lead()
    await led.tick()
    const asking = led.scheduler.trigger('asked', act)
    const pausing = led.scheduler.setPaused('job', act, true)
    await led.tick()
    expect(await asking).toBe(at('asked', '12:00:00'))
    await pausing
    await led.end(at('asked', '12:00:00'))
    expect(led.last('asked')).toMatchObject({ kind: 'manual', status: 'done' })
    await led.die()

    const next = await site.lead()
    await next.tick(60 * MINUTE)
    expect(next.runs.going).toEqual([])
    const resuming = next.scheduler.setPaused('job', act, false)
    await next.tick()
    await resuming
    await next.tick(60 * MINUTE)
    expect(next.runs.going).toEqual([at('job', '14:00:00')])
  })

  it('are refused what cannot be', async () => {
    await using site = await SchedulerSite.make(NOON)
    site.setJobs({ job: undefined })
    const led = await site.lead()
    const refused = [led.scheduler.trigger('nobody', act), led.scheduler.setPaused('job', act, false)].map((asked) =>
      expect(asked).rejects.toMatchObject({ code: 'DAEMON_REFUSED' }),
    )
    await led.tick()
    await Promise.all(refused)
  })
})

describe('the next leader', () => {
  it('starts what was claimed, looks after what goes on, and books what has ended', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    const noon = { cron: '0 12 * * *' }
    site.setJobs({ claimed: { ...noon, priority: 0 }, going: noon, ended: noon, lost: noon })
    const led = await site.lead({ parallel: 3 })
    await led.tick()
    await led.tick(MINUTE)
    expect(led.runs.going).toHaveLength(3)
    await led.die()

    const next = await site.lead()
    const { runs } = next
    runs.orphans.add(at('going', '12:00:00'))
    runs.outcomes.set(at('ended', '12:00:00'), { run: 'r', status: 'done', exit: 0 })
    await next.scheduler.recover()
    await next.tick()
    expect(runs.started.sort()).toEqual([at('claimed', '12:00:00'), at('lost', '12:00:00')])
    expect(runs.going.sort()).toEqual([at('claimed', '12:00:00'), at('going', '12:00:00'), at('lost', '12:00:00')])
    expect(next.last('ended')).toMatchObject({ status: 'done', ok: true })
    await next.end(at('going', '12:00:00'))
    expect(next.last('going')).toMatchObject({ status: 'done', attempts: 1 })
  })

  it('goes on with what was cut short when the daemon was stopped', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 12 * * *', retries: { attempts: 1 } } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    const slot = at('job', '12:00:00')
    const drained = led.scheduler.drain(5_000, async () => undefined)
    led.runs.end(slot, { exit: 143, seconds: 1, status: 'interrupted' })
    await drained
    await led.die()
    const next = await site.lead()
    await next.tick()
    await next.end(slot)
    expect(next.last('job')).toMatchObject({ status: 'done', attempts: 1 })
  })

  it('finds a former one fenced off: it writes nothing more', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 12 * * *' } })
    const led = await site.lead()
    await led.tick()
    const other = site.candidate()
    expect(await other.stand()).toBeUndefined()
    site.clock.steadyMs += 10_000
    const leader = await other.stand()
    expect(leader?.epoch).toBe(2)
    await leader?.release()
    await expect(led.tick(MINUTE)).rejects.toMatchObject({ code: 'FENCED' })
    await expect(led.leader.beat()).rejects.toMatchObject({ code: 'FENCED' })
    expect(led.runs.started).toEqual([])
    expect((await readBook(site.epochs)).job('job').open).toEqual([])
  })
})

describe('the clock', () => {
  it('set back an hour repeats nothing', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 * * * *' } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    await led.end(at('job', '12:00:00'))
    site.clock.set('2026-03-01T11:00:30Z')
    for (let minute = 0; minute < 119; minute += 1) await led.tick(MINUTE)
    expect(led.runs.started).toEqual([at('job', '12:00:00')])
    await led.tick(MINUTE)
    expect(led.runs.started).toEqual([at('job', '12:00:00'), at('job', '13:00:00')])
  })

  it('that was years ahead, and is set right, does not stop the job until then, and repeats no run', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:59:30Z')
    site.setJobs({ job: { cron: '0 * * * *' } })
    const led = await site.lead()
    await led.tick()
    await led.tick(MINUTE)
    await led.end(at('job', '12:00:00'))
    site.clock.set('2038-01-19T03:14:07Z')
    await led.tick()
    await led.end('job@2038-01-19T03:00:00.000Z')
    site.clock.set('2026-03-01T11:58:30Z')
    await led.tick()
    await led.tick(2 * MINUTE)
    await led.tick(60 * MINUTE)
    expect(led.runs.started).toEqual([at('job', '12:00:00'), 'job@2038-01-19T03:00:00.000Z', at('job', '13:00:00')])
  })
})

describe('a changed schedule', () => {
  it('makes up for nothing that lies before the change, and a removed job drops what waits', async () => {
    await using site = await SchedulerSite.make('2026-03-01T11:30:00Z')
    site.setJobs({ job: { cron: '0 0 1 1 *' }, other: { cron: '59 11 * * *' } })
    const led = await site.lead({ parallel: 1 })
    await led.tick()
    await led.tick(28 * MINUTE)
    site.setJobs({ job: { cron: '* * * * *', missed: 'all' }, other: { cron: '59 11 * * *' } })
    await led.tick()
    expect(led.runs.started).toEqual([])
    await led.tick(MINUTE)
    expect(led.runs.started).toEqual([at('job', '11:59:00')])
    site.setJobs({ job: { cron: '* * * * *' } })
    await led.tick()
    expect(led.last('other')).toMatchObject({ status: 'removed', ok: false })
  })
})

describe('a job that goes on for ever', () => {
  const FOREVER = { until: 'forever' }

  it('is started, and started again whatever has ended it, beside as many runs as may be', async () => {
    await using site = await SchedulerSite.make('2026-03-01T00:00:00Z')
    site.setJobs({ flow: FOREVER, other: FOREVER, often: { cron: '* * * * *' } })
    const led = await site.lead({ parallel: 1 })
    await led.tick()
    await led.tick(60_000)
    const [flow = ''] = led.runs.going
    expect(led.runs.going).toHaveLength(3)
    await led.end(flow, { exit: 78, seconds: 1, status: 'failed' })
    expect(led.runs.going).toHaveLength(2)
    await led.tick(999)
    expect(led.runs.going).toHaveLength(2)
    await led.tick(2)
    expect(led.runs.started.filter((slot) => slot === flow)).toHaveLength(2)
    // The pauses grow, up to a minute; a run that lasted was no failure to start.
    for (let attempt = 3; attempt < 12; attempt += 1) {
      await led.end(flow, { exit: 69, seconds: 1, status: 'owed' })
      await led.tick(60_001)
      expect(led.runs.started.filter((slot) => slot === flow)).toHaveLength(attempt)
    }
    await led.end(flow, { exit: null, seconds: 4000, status: 'failed' })
    await led.tick(1_001)
    expect(led.runs.going).toContain(flow)
    const refused = expect(led.scheduler.trigger('flow', act)).rejects.toMatchObject({ code: 'DAEMON_REFUSED' })
    await led.tick()
    await refused
  })

  it('is stopped while it is paused, begins anew when its file has changed, and ends when it was taken away', async () => {
    await using site = await SchedulerSite.make('2026-03-01T00:00:00Z')
    site.setJobs({ flow: FOREVER })
    const led = await site.lead()
    await led.tick()
    const first = led.runs.going[0] ?? ''

    const paused = led.scheduler.setPaused('flow', act, true)
    await led.tick()
    await paused
    await led.tick()
    expect(led.runs.stopped).toEqual([first])
    await led.end(first)
    await led.tick(60_000)
    expect(led.runs.going).toEqual([])
    const resumed = led.scheduler.setPaused('flow', act, false)
    await led.tick()
    await resumed
    await led.tick()
    const second = led.runs.going[0] ?? ''
    expect(second).not.toBe(first)

    site.setJobs({ flow: { ...FOREVER, changed: 1 } })
    await led.tick()
    expect(led.runs.stopped).toEqual([first, second])
    await led.end(second)
    await led.tick(1)
    const third = led.runs.going[0] ?? ''
    expect([first, second]).not.toContain(third)

    site.setJobs({})
    await led.tick()
    expect(led.runs.stopped).toEqual([first, second, third])
    await led.end(third)
    await led.tick(60_000)
    expect(led.runs.going).toEqual([])
  })

  it('goes on under the next daemon, which knows whether its file has changed meanwhile', async () => {
    await using site = await SchedulerSite.make('2026-03-01T00:00:00Z')
    site.setJobs({ flow: FOREVER })
    const led = await site.lead()
    await led.tick()
    const slot = led.runs.going[0] ?? ''
    await led.die()

    const next = await site.lead()
    next.runs.orphans.add(slot)
    await next.scheduler.recover()
    await next.tick()
    expect([next.runs.going, next.runs.started, next.runs.stopped]).toEqual([[slot], [], []])
    await next.die()

    site.setJobs({ flow: { ...FOREVER, changed: 1 } })
    const last = await site.lead()
    last.runs.orphans.add(slot)
    await last.scheduler.recover()
    await last.tick()
    expect(last.runs.stopped).toEqual([slot])
  })
})
