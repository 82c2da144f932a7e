import { describe, expect, it } from 'vitest'
import { readSchedule, schedule } from '../../src/core/job/schedule.ts'
import { type Decision, dueByCron, upcoming } from '../../src/daemon/due.ts'
import { type JobBook, SlotBook, slotId } from '../../src/daemon/slot-book.ts'

const EVERY_MINUTE = { cron: '* * * * *' }

describe('due times', () => {
  it('are claimed once each while the daemon is there', () => {
    const { claims } = walk(EVERY_MINUTE, '2026-03-01T10:00:10Z', '2026-03-01T10:05:10Z')
    expect(claims).toEqual(['10:01', '10:02', '10:03', '10:04', '10:05'].map((time) => `2026-03-01T${time}:00.000Z`))
  })

  it('are not claimed again when the clock goes back an hour', () => {
    const book = bookFrom('2026-03-01T10:00:00Z')
    const first = walk(EVERY_MINUTE, '2026-03-01T10:00:00Z', '2026-03-01T10:03:00Z', book)
    const again = walk(EVERY_MINUTE, '2026-03-01T09:03:30Z', '2026-03-01T10:04:00Z', book)
    expect(first.claims).toHaveLength(3)
    expect(again.claims).toEqual(['2026-03-01T10:04:00.000Z'])
  })

  it('come late within a minute without being missed', () => {
    const { decisions } = at(EVERY_MINUTE, '2026-03-01T10:00:00Z', '2026-03-01T10:01:59Z')
    expect(decisions).toEqual([{ type: 'claim', at: ms('2026-03-01T10:01:00Z'), kind: 'cron' }])
  })

  it('know the year 2038 and after', () => {
    const { claims } = walk({ cron: '0 0 1 1 *' }, '2037-12-31T23:59:00Z', '2038-01-01T00:01:00Z')
    expect(claims).toEqual(['2038-01-01T00:00:00.000Z'])
  })
})

describe('times that were missed', () => {
  const HOURLY = { cron: '0 * * * *' }
  const asleep = (more: object) => at({ ...HOURLY, ...more }, '2026-03-01T10:30:00Z', '2026-03-01T22:30:00Z')

  it.each([
    ['one: only the newest', { missed: 'one', catch_up: '6h' }, ['22:00 missed'], 11],
    [
      'all: each within the window, oldest first',
      { missed: 'all', catch_up: '3h' },
      ['20:00 missed', '21:00 missed', '22:00 missed'],
      9,
    ],
    ['none: no run', { missed: 'none' }, [], 12],
    ['a window that all of them are too old for', { missed: 'all', catch_up: '10m' }, [], 12],
  ])('%s', (_, more, claims, missed) => {
    const { decisions } = asleep(more)
    expect(
      decisions.flatMap((each) => (each.type === 'claim' ? [`${iso(each.at).slice(11, 16)} ${each.kind}`] : [])),
    ).toEqual(claims)
    const passed = decisions.flatMap((each) => (each.type === 'pass' && each.reason === 'missed' ? [each.count] : []))
    expect(passed.reduce((a, b) => a + b, 0)).toBe(missed)
  })

  it('and a time that is due now: of all of them the newest, where one is made up for', () => {
    const { decisions } = at({ ...HOURLY, missed: 'one' }, '2026-03-01T10:30:00Z', '2026-03-01T13:00:05Z')
    const claims = decisions.filter(({ type }) => type === 'claim')
    expect(claims).toEqual([{ type: 'claim', at: ms('2026-03-01T13:00:00Z'), kind: 'cron' }])
  })

  it('over years are not walked through', () => {
    const begun = performance.now()
    const { decisions } = at({ cron: '* * * * * *', missed: 'one' }, '2026-03-01T10:00:00Z', '2038-03-01T10:00:00Z')
    expect(decisions.filter(({ type }) => type === 'claim')).toHaveLength(1)
    expect(performance.now() - begun).toBeLessThan(10_000)
  })

  it('while the job was paused are passed over', () => {
    const book = bookFrom('2026-03-01T10:30:00Z')
    book.paused = { who: 'ann', why: 'test', at: '2026-03-01T10:30:00Z' }
    const decisions = dueByCron('job', parse(HOURLY), book, ms('2026-03-01T12:00:10Z'))
    expect(decisions).toMatchObject([{ type: 'pass', reason: 'paused', count: 2, to: ms('2026-03-01T12:00:00Z') }])
  })
})

describe('a time that comes while the job still runs', () => {
  it.each([
    ['skip', 1, [['pass', 'overlap']]],
    ['queue_one', 1, [['claim', 'cron']]],
    ['queue_one', 2, [['pass', 'overlap']]],
    [
      'cancel_other',
      1,
      [
        ['cancel', ''],
        ['claim', 'cron'],
      ],
    ],
  ] as const)('%s with %d open', (overlap, open, expected) => {
    const book = bookFrom('2026-03-01T10:00:30Z')
    for (let index = 0; index < open; index += 1) {
      const time = ms('2026-03-01T09:00:00Z') + index
      book.open.push({
        id: slotId('job', time),
        job: 'job',
        at: time,
        kind: 'cron',
        since: { segment: '', byte: 0 },
        attempts: 1,
      })
    }
    const decisions = dueByCron('job', parse({ ...EVERY_MINUTE, overlap }), book, ms('2026-03-01T10:01:05Z'))
    const told = decisions.map((each) => [
      each.type,
      each.type === 'claim' ? each.kind : each.type === 'pass' ? each.reason : '',
    ])
    expect(told).toEqual(expected)
  })
})

describe('jitter', () => {
  it('is the same for each daemon, and no more than was said', () => {
    const jittered = parse({ cron: '0 * * * *', jitter: '10m' })
    const times = () => upcoming('job', jittered, bookFrom('2026-03-01T00:00:00Z'), ms('2026-03-01T00:00:00Z'), 50)
    expect(times()).toEqual(times())
    const delays = times().map(({ at: time, start }) => start - time)
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...delays)).toBeLessThan(600_000)
    expect(new Set(delays).size).toBeGreaterThan(40)
  })

  it('decides times in their order, also where it is longer than the interval, and misses none', () => {
    const jittered = { ...EVERY_MINUTE, jitter: '5m', overlap: 'queue_one' }
    const { claims, passed } = walk(jittered, '2026-03-01T10:00:00Z', '2026-03-01T10:30:00Z')
    expect(claims).toEqual([...claims].sort())
    expect(passed.filter((reason) => reason !== 'overlap')).toEqual([])
    expect(claims.length + passed.length).toBeGreaterThanOrEqual(25)
  })
})

/** Where clocks are put forward, a time in the gap comes at its end; where they are put back, a fixed time comes once. */
describe('changes of summer time', () => {
  it.each([
    [
      'Europe/Berlin',
      '30 2 * * *',
      '2026-03-28T00:00:00Z',
      '2026-03-31T00:00:00Z',
      ['2026-03-28T01:30', '2026-03-29T01:00', '2026-03-30T00:30'],
    ],
    [
      'Europe/Berlin',
      '30 2 * * *',
      '2026-10-24T00:00:00Z',
      '2026-10-27T00:00:00Z',
      ['2026-10-24T00:30', '2026-10-25T00:30', '2026-10-26T01:30'],
    ],
    [
      'America/New_York',
      '30 2 * * *',
      '2026-03-07T00:00:00Z',
      '2026-03-10T00:00:00Z',
      ['2026-03-07T07:30', '2026-03-08T07:00', '2026-03-09T06:30'],
    ],
    [
      'America/New_York',
      '30 1 * * *',
      '2026-10-31T00:00:00Z',
      '2026-11-03T00:00:00Z',
      ['2026-10-31T05:30', '2026-11-01T05:30', '2026-11-02T06:30'],
    ],
    [
      'Australia/Lord_Howe',
      '15 2 * * *',
      '2026-10-02T12:00:00Z',
      '2026-10-05T12:00:00Z',
      ['2026-10-02T15:45', '2026-10-03T15:30', '2026-10-04T15:15'],
    ],
    [
      'Australia/Lord_Howe',
      '45 1 * * *',
      '2026-04-03T12:00:00Z',
      '2026-04-06T12:00:00Z',
      ['2026-04-03T14:45', '2026-04-04T14:45', '2026-04-05T15:15'],
    ],
  ])('%s, %s from %s', (timezone, cron, from, to, expected) => {
    const { claims } = walk({ cron, timezone }, from, to, bookFrom(from), 300_000)
    expect(claims.map((time) => time.slice(0, 16))).toEqual(expected)
  })

  it('leave a list of hours where the clock on the wall has them: none in the gap, both where one comes twice', () => {
    const lists = { cron: '30 1,2 * * *', timezone: 'America/New_York' }
    const hours = (from: string, to: string) =>
      walk(lists, from, to, bookFrom(from), 300_000).claims.map((time) => time.slice(11, 16))
    expect(hours('2026-03-08T04:00:00Z', '2026-03-08T12:00:00Z')).toEqual(['06:30'])
    expect(hours('2026-11-01T04:00:00Z', '2026-11-01T12:00:00Z')).toEqual(['05:30', '06:30', '07:30'])
  })

  it('leave a job that runs every 20 minutes at every 20 minutes', () => {
    for (const from of ['2026-03-29T00:00:00Z', '2026-10-25T00:00:00Z']) {
      const { claims } = walk(
        { cron: '*/20 * * * *', timezone: 'Europe/Berlin' },
        from,
        iso(ms(from) + 4 * 3_600_000),
        bookFrom(from),
        60_000,
      )
      const gaps = claims.slice(1).map((time, index) => ms(time) - ms(claims[index] ?? ''))
      expect(claims).toHaveLength(12)
      expect(new Set(gaps)).toEqual(new Set([1_200_000]))
    }
  })
})

function parse(value: object) {
  return readSchedule(schedule.parse(value))
}

function bookFrom(time: string): JobBook {
  const book = new SlotBook().job('job')
  book.watermark = ms(time)
  return book
}

function at(value: object, from: string, now: string): { decisions: Decision[] } {
  return { decisions: dueByCron('job', parse(value), bookFrom(from), ms(now)) }
}

/** Step by step; each claimed run ends at once. */
function walk(value: object, from: string, to: string, book = bookFrom(from), stepMs = 30_000) {
  const claims: string[] = []
  const passed: string[] = []
  const read = parse(value)
  for (let now = ms(from); now <= ms(to); now += stepMs)
    for (const decision of dueByCron('job', read, book, now)) {
      if (decision.type === 'pass') {
        book.watermark = Math.max(book.watermark, decision.to)
        passed.push(decision.reason)
      }
      if (decision.type !== 'claim') continue
      book.watermark = Math.max(book.watermark, decision.at)
      book.taken.push(decision.at)
      claims.push(iso(decision.at))
    }
  return { claims, passed }
}

function ms(time: string): number {
  return Date.parse(time)
}

function iso(time: number): string {
  return new Date(time).toISOString()
}
