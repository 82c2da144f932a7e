import { afterEach, expect, it } from 'vitest'
import { Outbox } from '../../src/runtime/outbox.ts'
import { FakeConsumer } from '../harness/fake-consumer.ts'
import { OutboxBench } from '../harness/outbox.ts'

let bench: OutboxBench

function benchOf(spool: Readonly<Record<string, unknown>>): OutboxBench {
  const extra = { consumer: { fake: new FakeConsumer().definition } }
  bench = new OutboxBench({ distribute: { one: { type: 'fake' } }, extra, spool })
  return bench
}

afterEach(() => bench.remove())

const never = new AbortController().signal
const open = async () => (await Outbox.open(await bench.state, await bench.job)) as Outbox

it('that is full ends the run where the job says so, naming the limit', async () => {
  await benchOf({ max_bytes: '1B', when_full: 'fail' }).put('SELECT 1::BIGINT AS id')
  const outbox = await open()
  await expect(outbox.room(async () => undefined, never)).rejects.toMatchObject({
    code: 'SPOOL_FULL',
    message: /spool\.max_bytes is 1$/,
  })
  await outbox.close()
})

it('that is full waits until what waits was handed over, once for all who wait', async () => {
  await benchOf({ max_bytes: '1B', when_full: 'block' }).put('SELECT 1::BIGINT AS id')
  const outbox = await open()
  let works = 0
  const work = async () => {
    works += 1
    for (const file of outbox.files) await outbox.pass(file)
  }
  await Promise.all([outbox.room(work, never), outbox.room(work, never), outbox.room(work, never)])
  expect(works).toBe(1)
  expect(outbox.bytes).toBe(0)
  await outbox.close()
})

it('that is full stops waiting when the run is stopped', async () => {
  await benchOf({ max_bytes: '1B', when_full: 'block' }).put('SELECT 1::BIGINT AS id')
  const outbox = await open()
  const controller = new AbortController()
  const waiting = outbox.room(async () => controller.abort(), controller.signal)
  await expect(waiting).rejects.toMatchObject({ code: 'SPOOL_FULL' })
  await outbox.close()
})

it('gives its files in the order in which their batches were planned', async () => {
  benchOf({})
  for (const sequence of [12, 3, 100]) await bench.put(`SELECT ${sequence}::BIGINT AS id`, { sequence })
  const outbox = await open()
  expect(outbox.files.map((file) => file.sequence)).toEqual(['3', '12', '100'])
  await outbox.close()
})
