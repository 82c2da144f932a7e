import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FakeConsumer } from '../harness/fake-consumer.ts'
import { OutboxBench } from '../harness/outbox.ts'

const FAST = { type: 'fake', retry: { initial: '5ms', max: '20ms' }, patience: '1s' }
const ROWS = (from: number, to: number) => `SELECT i::BIGINT AS id FROM range(${from}, ${to}) AS t(i)`

let fake: FakeConsumer
let bench: OutboxBench

function benchOf(distribute: Readonly<Record<string, Readonly<Record<string, unknown>>>>): OutboxBench {
  bench = new OutboxBench({ distribute, extra: { consumer: { fake: fake.definition } } })
  return bench
}

beforeEach(() => {
  fake = new FakeConsumer()
})

afterEach(() => bench.remove())

describe('a batch', () => {
  it('leaves the outbox when every consumer has had it, and nothing of it stays but its token', async () => {
    await benchOf({ one: FAST, two: FAST }).put(ROWS(0, 5))
    fake.answer = ({ id }) => (id.startsWith('two') ? { outcome: 'again', reason: 'down' } : { outcome: 'delivered' })
    await bench.workOff()
    expect((await bench.files()).filter((file) => file.endsWith('.parquet'))).toHaveLength(1)
    fake.answer = () => ({ outcome: 'delivered' })
    await bench.workOff()
    expect(await bench.files()).toEqual([
      'consumers/one/letters.ndjson',
      'consumers/one/passed',
      'consumers/two/letters.ndjson',
      'consumers/two/passed',
      'outbox/main/passed',
    ])
    const states = (await bench.events()).filter(({ type }) => type === 'batch_moved').map(({ state }) => state)
    expect(states).toEqual(['distribution.running', 'distribution.completed', 'done'])
  })

  it('that comes again after all have had it is not handed over anew', async () => {
    await benchOf({ one: FAST }).put(ROWS(0, 5), { sequence: 1 })
    await bench.workOff()
    expect(await bench.put(ROWS(0, 5), { sequence: 1 })).toBeUndefined()
    expect(await bench.workOff()).toEqual({ one: { delivered: 0, dead: 0, owed: 0 } })
    expect(fake.sent).toHaveLength(5)
  })

  it('that comes again with other rows keeps those that it had', async () => {
    await benchOf({ one: FAST }).put(ROWS(0, 5), { sequence: 1 })
    expect(await bench.put(ROWS(100, 103), { sequence: 1 })).toBe(5)
    await bench.workOff()
    expect(fake.delivered.sort()).toEqual([0, 1, 2, 3, 4])
  })

  it('waits for a planned range before it in its lane, and for none of another', async () => {
    await benchOf({ one: FAST }).put(ROWS(0, 5), { lane: 'a', sequence: 4 })
    await bench.put(ROWS(5, 10), { lane: 'b', sequence: 5 })
    const planned = { sequence: '3', source: 'input', lane: 'a', from: '3', to: '4', clock: '2026-03-01T12:00:00Z' }
    expect(await bench.workOff({}, { planned: [planned] })).toEqual({
      one: { delivered: 5, dead: 0, owed: 5, reason: 'its turn has not come' },
    })
    expect(fake.delivered.sort()).toEqual([5, 6, 7, 8, 9])
    expect(await bench.workOff()).toEqual({ one: { delivered: 5, dead: 0, owed: 0 } })
  })

  it('goes to the consumers of its output alone', async () => {
    bench = new OutboxBench({
      distribute: { one: FAST, two: { ...FAST, input: 'main' } },
      extra: { consumer: { fake: fake.definition } },
    })
    await bench.put(ROWS(0, 3))
    expect(await bench.workOff({ only: ['one'] })).toEqual({
      one: { delivered: 3, dead: 0, owed: 0 },
      two: { delivered: 0, dead: 0, owed: 3, reason: 'its turn has not come' },
    })
  })
})

describe('an expression that fails on a row', () => {
  it('stops its consumer and no other, and nothing of the batch is sent before it is mended', async () => {
    const wrong = { ...FAST, select: { id: 'id', bad: "CASE WHEN id = 3 THEN error('no three') ELSE 1 END" } }
    await benchOf({ one: FAST, two: wrong }).put(ROWS(0, 5))
    const ends = await bench.workOff()
    expect(ends).toMatchObject({ one: { delivered: 5, owed: 0 }, two: { delivered: 0, owed: 5 } })
    expect(ends['two']?.reason).toContain('no three')
    bench.change({ one: FAST, two: FAST })
    expect(await bench.workOff()).toMatchObject({ two: { delivered: 5, owed: 0 } })
  })
})

describe('a limit of time', () => {
  it('ends the work although something is left', async () => {
    await benchOf({ one: { ...FAST, patience: '1h' } }).put(ROWS(0, 5))
    fake.answer = () => ({ outcome: 'again', reason: 'down' })
    const { one } = await bench.workOff({ timeoutMs: 100 })
    expect(one).toMatchObject({ owed: 5, reason: 'the time for it is up: down' })
  })

  it('may be patience without end', async () => {
    await benchOf({ one: { ...FAST, patience: '20ms', breaker: { failures: 1000 } } }).put(ROWS(0, 2))
    const started = Date.now()
    fake.answer = () => (Date.now() < started + 150 ? { outcome: 'again', reason: 'down' } : { outcome: 'delivered' })
    expect(await bench.workOff({ untilEmpty: true })).toEqual({ one: { delivered: 2, dead: 0, owed: 0 } })
  })
})
