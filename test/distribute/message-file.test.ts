import { afterEach, expect, it } from 'vitest'
import { FakeConsumer } from '../harness/fake-consumer.ts'
import { OutboxBench } from '../harness/outbox.ts'

let bench: OutboxBench

afterEach(() => bench.remove())

it('makes whole messages of the rows that `where` keeps, also of more than are made at a time', async () => {
  const fake = new FakeConsumer()
  bench = new OutboxBench({
    distribute: { target: { type: 'fake', rows: 700, where: 'id % 2 = 0' } },
    extra: { consumer: { fake: fake.definition } },
  })
  await bench.put(`SELECT i::BIGINT AS id, repeat('x', 50) AS filling FROM range(100000) AS t(i)`)
  expect(await bench.workOff()).toEqual({ target: { delivered: 50_000, dead: 0, owed: 0 } })
  const inOrder = [...fake.sent].sort((a, b) => (a.ids[0] ?? 0) - (b.ids[0] ?? 0))
  expect(inOrder.map(({ ids }) => ids.length)).toEqual([...new Array(71).fill(700), 300])
  expect(inOrder.flatMap(({ ids }) => ids)).toEqual(Array.from({ length: 50_000 }, (_, index) => index * 2))
})

it('reads messages whose bodies are larger than what is read of the file at a time', async () => {
  const fake = new FakeConsumer()
  bench = new OutboxBench({ distribute: { target: { type: 'fake' } }, extra: { consumer: { fake: fake.definition } } })
  await bench.put(`SELECT i::BIGINT AS id, repeat('ä', 200000 + i::INTEGER) AS filling FROM range(5) AS t(i)`)
  await bench.workOff()
  const lengths = fake.sent.map(({ body }) => (JSON.parse(body) as { id: number; filling: string }).filling.length)
  expect(lengths.sort()).toEqual([200_000, 200_001, 200_002, 200_003, 200_004])
})
