/** What a process remembers of the batches in its topic: as much after months as after a day, and nothing that it could send twice. */
import { expect, it } from 'vitest'
import type { BatchEntry, FoldedLane, TopicRecord } from '../../../src/clients/kafka/batch-entries.ts'
import { BatchMemory } from '../../../src/clients/kafka/batch-memory.ts'
import { tokenOf } from '../../../src/core/token.ts'

const memoryOf = (remember: number, input = 'main') =>
  new BatchMemory({ job: 'job', shard: undefined, input, remember })

function batch(lane: string, from: number, { epoch = '0', job = 'job', to = from + 1 } = {}) {
  const range = { lane, from: String(from), to: String(to) }
  return { source: 'input', range, token: tokenOf({ job, source: 'input', range, epoch }) }
}

function entry({ range, source, token }: ReturnType<typeof batch>, job = 'job'): TopicRecord {
  const { from, lane, to } = range
  const known: BatchEntry = { job, loader: 'store', source, lane, from, to, digest: `d${from}`, rows: 3, clock: 'c' }
  return { type: 'entry', token, entry: known }
}

/** Sends the batch: what the topic has afterwards, compacted, is in `log`. */
function send(memory: BatchMemory, log: Map<string, TopicRecord>, own: ReturnType<typeof batch>) {
  const fold = memory.fold()
  const record = entry(own)
  log.set(own.token, record)
  for (const token of fold?.tokens ?? []) log.delete(token)
  for (const [key, lane] of fold?.lanes ?? []) log.set(key, { type: 'folded', key, lane })
  memory.take(record)
  if (fold !== undefined) memory.apply(fold)
}

it('keeps the newest one by one, and of months of a stream only what range of each lane is there', () => {
  const memory = memoryOf(1000)
  const log = new Map<string, TopicRecord>()
  for (let n = 0; n < 40_000; n += 1) send(memory, log, batch(`events/${n % 4}`, Math.floor(n / 4)))
  expect(log.size).toBeLessThan(1000 + 500 + 4)
  const heir = memoryOf(1000)
  for (const record of log.values()) heir.take(record)
  for (const own of [memory, heir]) {
    expect(own.size).toBeLessThan(1000 + 500)
    expect(own.find(batch('events/1', 9999).token)).toMatchObject({ digest: 'd9999', rows: 3 })
    expect(own.find(batch('events/1', 9800).token)).toBeDefined()
    const old = batch('events/1', 17)
    expect(own.find(old.token)).toBeUndefined()
    expect(own.foldedAt(old)).toMatchObject({ from: '0' })
    expect(own.foldedAt(batch('events/1', 17, { to: 10_500 }))).toBeDefined()
    expect(own.foldedAt(batch('events/1', 10_000))).toBeUndefined()
    expect(own.foldedAt(batch('events/1', 17, { epoch: '1' }))).toBeUndefined()
  }
  const [lane, ...others] = [...log.values()].flatMap((record) =>
    record.type === 'folded' && record.lane.lane === 'events/2' ? [record.lane] : [],
  )
  expect(others).toEqual([])
  const kept = [...log.values()].filter((record) => record.type === 'entry' && record.entry.lane === 'events/2').length
  expect(lane?.folded).toEqual([
    { from: '0', to: String(10_000 - kept), batches: 10_000 - kept, rows: 3 * (10_000 - kept) },
  ])
})

it('keeps what a lane may repeat that stands still while others go on, and leaves a hole open', () => {
  const memory = memoryOf(100)
  const log = new Map<string, TopicRecord>()
  for (let n = 0; n < 64; n += 1) send(memory, log, batch('still', n))
  for (let n = 0; n < 1000; n += 1) if (n !== 500) send(memory, log, batch('busy', n))
  for (let n = 0; n < 64; n += 1) expect(memory.find(batch('still', n).token)).toBeDefined()
  expect(memory.foldedAt(batch('busy', 499))).toBeDefined()
  expect(memory.foldedAt(batch('busy', 500))).toBeUndefined()
  expect(memory.foldedAt(batch('busy', 501))).toBeDefined()
  send(memory, log, batch('busy', 500))
  for (let n = 1000; n < 1200; n += 1) send(memory, log, batch('busy', n))
  const folded = [...log.values()].flatMap((record) => (record.type === 'folded' ? record.lane.folded : []))
  expect(folded).toHaveLength(1)
})

it('leaves alone what is of another job, of another output, or of a transaction that was given up', () => {
  const memory = memoryOf(10, 'sums')
  for (let n = 0; n < 200; n += 1) memory.take(entry(batch('events/0', n, { job: 'other' }), 'other'))
  expect(memory.size).toBe(0)
  for (let n = 0; n < 200; n += 1) memory.take(entry(batch('events/0', n)))
  expect(memory.fold()).toBeUndefined()

  const own = memoryOf(10)
  for (let n = 0; n < 20; n += 1) own.take(entry(batch('events/0', n)))
  const [first, second] = [own.fold(), own.fold()]
  expect(first?.tokens).toHaveLength(10)
  expect(second).toEqual(first)
  expect(own.find(batch('events/0', 0).token)).toBeDefined()
  expect(own.foldedAt(batch('events/0', 0))).toBeUndefined()
})

it('takes up a lane as the topic has it, whatever of it was read before', () => {
  const memory = memoryOf(10)
  const lane: FoldedLane = {
    ...{ job: 'job', loader: 'store', source: 'input', lane: 'events/0', epoch: '0' },
    folded: [{ from: '0', to: '5', batches: 5, rows: 15 }],
  }
  const log: TopicRecord[] = [
    ...Array.from({ length: 6 }, (_, n) => entry(batch('events/0', n))),
    { type: 'folded', key: 'folded:x', lane },
    ...Array.from({ length: 5 }, (_, n): TopicRecord => ({ type: 'gone', token: batch('events/0', n).token })),
  ]
  for (let again = 0; again < 2; again += 1) {
    for (const record of log) memory.take(record)
    expect(memory.size).toBe(1)
    expect(memory.foldedAt(batch('events/0', 4))).toBeDefined()
    expect(memory.find(batch('events/0', 5).token)).toBeDefined()
  }
})
