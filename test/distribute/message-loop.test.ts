import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { changeLetters, listLetters } from '../../src/distribute/dead-letters.ts'
import { FakeConsumer } from '../harness/fake-consumer.ts'
import { OutboxBench } from '../harness/outbox.ts'

const FAST = { type: 'fake', retry: { initial: '5ms', max: '20ms' }, breaker: { failures: 1000 }, patience: '300ms' }
const ROWS = (from: number, to: number) => `SELECT i::BIGINT AS id, i % 5 AS k FROM range(${from}, ${to}) AS t(i)`

let fake: FakeConsumer
let bench: OutboxBench

function benchOf(options: Readonly<Record<string, unknown>> = {}): OutboxBench {
  bench = new OutboxBench({
    distribute: { target: { ...FAST, ...options } },
    extra: { consumer: { fake: fake.definition } },
  })
  return bench
}

beforeEach(() => {
  fake = new FakeConsumer()
})

afterEach(() => bench.remove())

const letters = async () => listLetters(await bench.job, dirname((await bench.state).path), { ids: [] })
const replay = async (what: 'replayed' | 'discarded' = 'replayed', ids: string[] = []) =>
  changeLetters({
    job: await bench.job,
    stateDir: dirname((await bench.state).path),
    command: 'test',
    who: 'me',
    what,
    ids,
    reason: 'a test',
  })

describe('a key that fails', () => {
  it('holds up its own messages alone, and they come in order when it is well', async () => {
    await benchOf({ key: 'k' }).put(ROWS(0, 50))
    let ill = true
    fake.answer = ({ ids: [id = 0] }) =>
      ill && id % 5 === 2 ? { outcome: 'again', reason: 'ill' } : { outcome: 'delivered' }
    expect(await bench.workOff()).toMatchObject({ target: { delivered: 40, dead: 0, owed: 10, reason: /ill/ } })
    expect(new Set(fake.sent.filter(({ answer }) => answer === 'again').flatMap(({ ids }) => ids))).toEqual(
      new Set([2]),
    )
    ill = false
    expect(await bench.workOff()).toEqual({ target: { delivered: 10, dead: 0, owed: 0 } })
    for (let key = 0; key < 5; key += 1) {
      const own = fake.delivered.filter((id) => id % 5 === key)
      expect(own).toEqual([...own].sort((a, b) => a - b))
    }
    expect(fake.delivered).toHaveLength(50)
  })

  it('is passed by the later ones once it is a dead letter', async () => {
    await benchOf({ key: 'k' }).put(ROWS(0, 20))
    fake.answer = ({ ids: [id = 0] }) => (id === 2 ? { outcome: 'refused', reason: 'wrong' } : { outcome: 'delivered' })
    expect(await bench.workOff()).toEqual({ target: { delivered: 19, dead: 1, owed: 0 } })
    expect(fake.delivered).toContain(7)
  })
})

describe('messages', () => {
  it('are under way together, as many as `concurrency` says', async () => {
    await benchOf({ concurrency: 3 }).put(ROWS(0, 30))
    const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
    fake.answer = async () => {
      for (let turns = 0; turns < 20; turns += 1) await turn()
      return { outcome: 'delivered' }
    }
    await bench.workOff()
    expect(fake.most).toBe(3)
  })

  it('without a key, and rows whose key is NULL, are held up by nobody', async () => {
    await benchOf({ key: 'CASE WHEN k = 1 THEN 1 END' }).put(ROWS(0, 10))
    fake.answer = ({ ids: [id = 0] }) => (id < 3 ? { outcome: 'again', reason: 'ill' } : { outcome: 'delivered' })
    await bench.workOff()
    expect(fake.delivered.sort()).toEqual([3, 4, 5, 7, 8, 9])
  })

  it('have ids made of consumer, batch and rows, and the same at every attempt', async () => {
    await benchOf({ rows: 4 }).put(ROWS(0, 10))
    let failures = 3
    fake.answer = () => (failures-- > 0 ? { outcome: 'again', reason: 'ill' } : { outcome: 'delivered' })
    await bench.workOff()
    const ids = [...new Set(fake.sent.map(({ id }) => id))].sort()
    expect(ids.map((id) => id.replace(/[0-9a-f]{32}/, 'TOKEN'))).toEqual([
      'target_TOKEN_0-3',
      'target_TOKEN_4-7',
      'target_TOKEN_8-9',
    ])
    for (const id of ids)
      expect(new Set(fake.sent.filter((sent) => sent.id === id).map(({ body }) => body)).size).toBe(1)
  })

  it('go to endpoints in turn, and to none that is broken', async () => {
    await benchOf({ endpoints: ['a', 'b'], breaker: { failures: 2, pause: '1h' } }).put(ROWS(0, 40))
    fake.answer = ({ endpoint }) => (endpoint === 'a' ? { outcome: 'again', reason: 'down' } : { outcome: 'delivered' })
    expect(await bench.workOff()).toEqual({ target: { delivered: 40, dead: 0, owed: 0 } })
    const toBroken = fake.sent.filter(({ endpoint }) => endpoint === 'a').length
    expect(toBroken).toBeGreaterThanOrEqual(2)
    expect(toBroken).toBeLessThanOrEqual(2 + 4)
  })
})

describe('the circuit breaker', () => {
  it('lets one message at a time probe an endpoint that is down', async () => {
    await benchOf({ concurrency: 4, breaker: { failures: 3, pause: '60ms' }, patience: '400ms' }).put(ROWS(0, 100))
    fake.answer = () => ({ outcome: 'again', reason: 'down' })
    await bench.workOff()
    const tookMs = Math.max(...fake.sent.map(({ at }) => at)) - Math.min(...fake.sent.map(({ at }) => at))
    // Three to break it and at most three more that were under way, then one for each pause.
    expect(fake.sent.length).toBeLessThanOrEqual(3 + 3 + Math.ceil(tookMs / 60))
    expect(fake.sent.length).toBeGreaterThan(4)
  })
})

describe('the deadline', () => {
  it('counts from the first attempt, also one of an earlier run, and ends in a dead letter', async () => {
    await benchOf({ retry: { initial: '5ms', max: '20ms', deadline: '1h' }, patience: '200ms' }).put(ROWS(0, 3))
    fake.answer = () => ({ outcome: 'again', reason: 'busy' })
    expect(await bench.workOff()).toMatchObject({ target: { dead: 0, owed: 3 } })
    const first = fake.sent.length
    // Less than the patience of the first run: what is counted from its attempts is over after one more.
    bench.change({ target: { ...FAST, retry: { initial: '5ms', max: '20ms', deadline: '150ms' } } })
    expect(await bench.workOff()).toMatchObject({ target: { delivered: 0, dead: 3, owed: 0 } })
    expect(fake.sent.length).toBe(first + 3)
    const [letter] = await letters()
    expect(letter?.reason).toBe('not delivered by its deadline: busy')
    const all = await letters()
    expect(all.reduce((sum, { attempts }) => sum + attempts, 0)).toBe(fake.sent.length)
  })
})

describe('a dead letter', () => {
  beforeEach(async () => {
    await benchOf({ key: 'k' }).put(ROWS(0, 10))
    fake.answer = ({ ids: [id = 0] }) =>
      id < 2 ? { outcome: 'refused', reason: `no ${id}` } : { outcome: 'delivered' }
    await bench.workOff()
  })

  it('has reason, attempts and the message as it was sent', async () => {
    expect(await letters()).toMatchObject([
      { consumer: 'target', state: 'dead', reason: 'no 0', attempts: 1, rows: 1, keys: ['0'] },
      { consumer: 'target', state: 'dead', reason: 'no 1', attempts: 1, rows: 1, keys: ['1'] },
    ])
  })

  it('that is sent back goes under the same id, before what waits', async () => {
    const [dead] = await letters()
    await bench.put(ROWS(10, 15))
    const changed = await replay('replayed', [dead?.id ?? ''])
    expect(changed).toMatchObject({ count: 1, letters: { target: [dead?.id] } })
    expect((await letters()).map(({ state }) => state)).toEqual(['queued', 'dead'])
    fake.answer = () => ({ outcome: 'delivered' })
    const before = fake.sent.length
    expect(await bench.workOff()).toEqual({ target: { delivered: 6, dead: 0, owed: 0 } })
    expect(fake.sent[before]?.id).toBe(dead?.id)
    expect(new Set(fake.sent.filter(({ id }) => id === dead?.id).map(({ body }) => body)).size).toBe(1)
    expect(await letters()).toHaveLength(1)
  })

  it('may die again, and is one letter all the same', async () => {
    await replay()
    expect(await bench.workOff()).toMatchObject({ target: { delivered: 0, dead: 2, owed: 0 } })
    expect((await letters()).map(({ state }) => state)).toEqual(['dead', 'dead'])
  })

  it('that was given up is gone, and the ledger says who did it and why', async () => {
    await replay('discarded')
    expect(await letters()).toEqual([])
    expect(await bench.workOff()).toEqual({ target: { delivered: 0, dead: 0, owed: 0 } })
    const [event] = (await bench.events()).filter(({ type }) => type === 'dead_letters_changed')
    expect(event).toMatchObject({ who: 'me', what: 'discarded', reason: 'a test', consumer: 'target' })
  })

  it('that is not there is refused before anything changes', async () => {
    const [dead] = await letters()
    await expect(replay('discarded', [dead?.id ?? '', 'target_0_0'])).rejects.toThrow(/no dead letter .* target_0_0/)
    expect(await letters()).toHaveLength(2)
  })
})

describe('a kill', () => {
  const progress = async () => {
    const { path } = await bench.state
    const [name = ''] = (await bench.files()).filter((file) => file.endsWith('.progress'))
    return join(path, name)
  }

  beforeEach(async () => {
    await benchOf().put(ROWS(0, 4))
    fake.answer = ({ ids: [id = 0] }) => {
      if (id === 0) return { outcome: 'refused', reason: 'no' }
      return id === 3 ? { outcome: 'again', reason: 'busy' } : { outcome: 'delivered' }
    }
    await bench.workOff()
    fake.answer = () => ({ outcome: 'delivered' })
    fake.sent.length = 0
  })

  it('between a dead letter and its note sends nothing twice, and keeps one letter', async () => {
    const file = await progress()
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^x 0 1\n/m, ''))
    expect(await bench.workOff()).toEqual({ target: { delivered: 1, dead: 1, owed: 0 } })
    expect(fake.delivered).toEqual([3])
    expect(await letters()).toHaveLength(1)
  })

  it('between an answer and its note sends the message again, under its id', async () => {
    const file = await progress()
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^d 2 1\n/m, ''))
    await bench.workOff()
    expect(fake.delivered.sort()).toEqual([2, 3])
    expect(fake.sent.map(({ id }) => id.split('_')[2]).sort()).toEqual(['2', '3'])
  })
})

describe('a consumer that wants nothing any more', () => {
  it('is asked no more, and everything for it waits', async () => {
    await benchOf().put(ROWS(0, 100))
    fake.answer = ({ ids: [id = 0] }) => (id === 3 ? { outcome: 'gone', reason: 'bye' } : { outcome: 'delivered' })
    const { target } = await bench.workOff()
    expect(target).toMatchObject({ dead: 0, reason: 'it is switched off: bye' })
    const sent = fake.sent.length
    expect(sent).toBeLessThanOrEqual(3 + 2 * 4)
    expect((await bench.workOff())['target']?.reason).toContain('--switch-on target')
    expect(fake.sent).toHaveLength(sent)
    expect((await bench.events()).filter(({ type }) => type === 'consumer_switched')).toHaveLength(1)
  })
})

describe('a stop', () => {
  it('finishes what is under way and sends nothing new', async () => {
    await benchOf({ concurrency: 2 }).put(ROWS(0, 50))
    const controller = new AbortController()
    fake.answer = () => {
      controller.abort()
      return { outcome: 'delivered' }
    }
    const { target } = await bench.workOff({}, { signal: controller.signal })
    expect(fake.sent.length).toBeLessThanOrEqual(2)
    expect(target).toMatchObject({
      delivered: fake.sent.length,
      owed: 50 - fake.sent.length,
      reason: 'the run was stopped',
    })
  })
})
