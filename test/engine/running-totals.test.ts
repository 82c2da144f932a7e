import { randomInt } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { CompiledStep } from '../../src/core/step-contract.ts'
import { bindSequence } from '../../src/engine/sequence.ts'
import window from '../../src/transforms/window.ts'
import { type Row, StepBench } from '../harness/step.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const COLUMNS = { id: 'BIGINT', campaign: 'VARCHAR', t: 'TIMESTAMP', cost: 'DECIMAL(18, 6)', user: 'BIGINT' }
const STEP_MS = 15 * 60_000
const SELECT = {
  n: 'count(*)',
  spend: 'sum(cost)',
  users: 'count(DISTINCT "user")',
  cpm: 'sum(cost) * 1000 / count(*)',
}

let bench: StepBench
beforeEach(async () => {
  bench = await StepBench.open()
  await bench.session.run(`CREATE OR REPLACE TEMP MACRO now() AS TIMESTAMPTZ '2030-01-01 00:00:00+00'`)
})
afterEach(() => bench.close())

const options = (timezone: string, more: object = {}) => ({
  time: 't',
  cumulative: { every: '15m', reset: 'day', timezone },
  lateness: '30m',
  settle: '0s',
  late: { to: 'late' },
  by: ['campaign'],
  select: SELECT,
  ...more,
})

const MORE: [timezone: string, spring: string, autumn: string][] = [
  ['Africa/Cairo', '2026-04-24', '2026-10-30'],
  ['America/Havana', '2026-03-08', '2026-11-01'],
  ['Asia/Shanghai', '2026-05-01', '2026-06-01'],
]
/** Around each change, from noon two days before to noon two days after: UTC. */
const CHANGES: [timezone: string, spring: string, autumn: string][] = [
  ['America/New_York', '2026-03-08', '2026-11-01'],
  ['Europe/Berlin', '2026-03-29', '2026-10-25'],
  ['Australia/Lord_Howe', '2026-04-05', '2026-10-04'],
  ...(LONG ? MORE : []),
]

interface Event {
  readonly id: number
  readonly campaign: string | null
  readonly ms: number
  readonly cost: number
  readonly user: number
}

describe.each(CHANGES)('running totals in %s', (timezone, spring, autumn) => {
  const seed = randomInt(1_000_000_000)
  const days = LONG ? [spring, autumn] : [seed % 2 === 0 ? spring : autumn]
  test.each(days)(`begin anew at midnight around %s, late ones put right (seed ${seed})`, async (day) => {
    const draw = generator(seed)
    const middle = Date.parse(`${day}T12:00:00Z`)
    const events = Array.from(
      { length: LONG ? 3000 : 500 },
      (_, id): Event => ({
        id,
        campaign: draw() % 9 === 0 ? null : `c${draw() % 3}`,
        ms: middle + ((draw() % (96 * 3600)) - 48 * 3600) * 1000,
        cost: draw() % 1000,
        user: draw() % 40,
      }),
    )
    // One of eight comes hours behind.
    const behind = (draw_: number) => (draw_ % 8 === 0 ? (draw_ % (10 * 3600)) * 1000 : (draw_ % 1700) * 1000)
    const arriving = events.map((event) => ({ event, at: event.ms + behind(draw()) })).sort((a, b) => a.at - b.at)
    let step: CompiledStep | undefined
    const take = async (number: number, rows: readonly Row[]) => {
      const input = await bench.input(COLUMNS, rows)
      step ??= await bench.compile(window, options(timezone, { early: '1s' }), input, 'w')
      return (await bench.run(step, input, number)).rows
    }
    const stored = new Map<string, Row>()
    const merge = (rows: readonly Row[]) => {
      for (const row of rows) {
        const key = JSON.stringify([row['day'], row['window_end'], row['campaign']])
        if (Number(stored.get(key)?.['version'] ?? 0) < Number(row['version'])) stored.set(key, row)
      }
    }
    for (let batch = 0; batch * 20 < arriving.length; batch += 1) {
      const rows = arriving.slice(batch * 20, batch * 20 + 20).map(({ event }) => rowOf(event))
      const found = await take(batch, rows)
      if (batch % 7 === 0) expect(await take(batch, rows)).toEqual(found)
      merge(found)
    }
    merge(await take(1_000_000, [{ id: -1, campaign: 'end', t: '2029-01-01 00:00:00', cost: '0', user: 0 }]))
    const end = [...stored.values()].filter(({ campaign }) => campaign !== 'end')
    expect(end.filter(({ provisional }) => provisional)).toEqual([])
    expect(end.some(({ correction }) => correction)).toBe(true)
    const given = end.map(({ day, window_end, campaign, n, spend, users, cpm }) =>
      JSON.stringify([day, window_end, campaign, n, Number(spend), users, Math.round(Number(cpm))]),
    )
    expect(given.sort()).toEqual(wanted(events, timezone).sort())
  })
})

describe('a running total', () => {
  const take = async (chosen: object, number: number, rows: readonly Row[]) => {
    const input = await bench.input(COLUMNS, rows)
    const step = await bench.compile(window, chosen, input, 'w')
    const { rows: found } = await bench.run(step, input, number)
    const late = await bench.rows(bindSequence(step.branches?.[0]?.relation.sql ?? '', number))
    return { found, late }
  }
  const at = (t: string, more: Row = {}): Row => ({ id: 1, campaign: 'a', t, cost: '1', user: 1, ...more })
  const told = (rows: readonly Row[]) =>
    rows.map(
      ({ day, window_end, n, correction }) =>
        `${day} ${String(window_end).slice(11, 16)} ${n}${correction ? ' again' : ''}`,
    )

  test('is told of anew, from the step of a late row to the last that was told of', async () => {
    const chosen = options('Asia/Shanghai')
    await take(chosen, 1, [at('2026-01-05 15:50:00'), at('2026-01-05 16:00:00'), at('2026-01-05 16:20:00')])
    expect(told((await take(chosen, 2, [at('2026-01-05 16:50:00')])).found)).toEqual([
      '2026-01-05 16:00 1',
      '2026-01-06 16:15 1',
    ])
    const { found, late } = await take(chosen, 3, [at('2026-01-05 16:14:59'), at('2026-01-05 17:05:00')])
    expect(told(found)).toEqual(['2026-01-06 16:15 2 again', '2026-01-06 16:30 3'])
    expect(late).toEqual([])
  })

  test('of a day that is gone is not touched: what comes for it, or has no time, is set aside', async () => {
    const chosen = options('Asia/Shanghai')
    await take(chosen, 1, [at('2026-01-05 12:00:00')])
    await take(chosen, 2, [at('2026-01-07 18:00:00')])
    const yesterday = at('2026-01-06 16:00:00', { id: 4 })
    const { found, late } = await take(chosen, 3, [
      at('2026-01-05 12:01:00', { id: 2 }),
      at('', { id: 3, t: null }),
      yesterday,
    ])
    expect(late.map(({ id, window_end }) => [id, window_end])).toEqual([
      [2, '2026-01-05 12:15:00'],
      [3, null],
    ])
    expect(told(found)).toEqual(['2026-01-07 16:15 1 again'])
  })

  test('keeps no more than the days that can still change, put together', async () => {
    const chosen = options('UTC', { select: { n: 'count(*)' } })
    const input = await bench.input(COLUMNS)
    const step = await bench.compile(window, chosen, input, 'w')
    let n = 0
    for (let number = 0; number <= 150; number += 1) {
      const rows = [at(new Date(Date.UTC(2026, 0, 1) + number * 3_600_000).toISOString().slice(0, -1))]
      for (const row of (await bench.run(step, await bench.input(COLUMNS, rows), number)).rows) n = Number(row['n'])
    }
    expect(n).toBe(6)
    const names = (step.state?.tables ?? []).map((ddl) => /EXISTS (\S+) /.exec(ddl)?.[1])
    const sizes = await Promise.all(names.map((name) => bench.count(`SELECT * FROM ${name}`)))
    expect(sizes[0]).toBeLessThan(110)
    expect(sizes[1]).toBeLessThan(30)
  }, 180_000)
})

/** By the calendar of JavaScript, and by sums of its own. */
function wanted(events: readonly Event[], timezone: string): string[] {
  const clock = new Intl.DateTimeFormat('en-CA', {
    ...{ timeZone: timezone, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit' },
    ...{ hour: '2-digit', minute: '2-digit', second: '2-digit' },
  })
  const placed = events.map((event) => {
    const parts = Object.fromEntries(clock.formatToParts(event.ms).map(({ type, value }) => [type, value]))
    const sinceMidnight = (Number(parts['hour']) * 3600 + Number(parts['minute']) * 60 + Number(parts['second'])) * 1000
    const day = `${parts['year']}-${parts['month']}-${parts['day']}`
    return { ...event, day, end: event.ms - (sinceMidnight % STEP_MS) + STEP_MS }
  })
  const steps = new Set(placed.map(({ day, campaign, end }) => JSON.stringify([day, campaign, end])))
  return [...steps].map((step) => {
    const [day, campaign, end] = JSON.parse(step) as [string, string | null, number]
    const own = placed.filter((event) => event.day === day && event.campaign === campaign && event.end <= end)
    const spend = own.reduce((sum, { cost }) => sum + cost, 0)
    const text = new Date(end).toISOString().slice(0, 19).replace('T', ' ')
    return JSON.stringify([
      day,
      text,
      campaign,
      own.length,
      spend,
      new Set(own.map(({ user }) => user)).size,
      Math.round((spend * 1000) / own.length),
    ])
  })
}

function rowOf({ id, campaign, ms, cost, user }: Event): Row {
  return { id, campaign, t: new Date(ms).toISOString().slice(0, -1).replace('T', ' '), cost: String(cost), user }
}

/** Numbers that are the same for a seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}
