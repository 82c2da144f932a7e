/**
 * What every consumer must do, executed through the dispatcher. A component brings a real receiver that can be taken down.
 * docs/component-contract.md says the same in words.
 */
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { optionRows } from '../../../src/core/component-page.ts'
import type { ConsumerDefinition } from '../../../src/core/consumer.ts'
import { strict } from '../../../src/core/job/json-shape.ts'
import { OutboxBench } from '../../harness/outbox.ts'

type Row = Readonly<Record<string, unknown>>

export interface ConsumerFixture {
  /** As in a job file. */
  readonly options: Readonly<Record<string, unknown>>
  /** Rows that it has, each as often as it came under another id: integers and decimals as text. */
  received(folder: string): Promise<Row[]>
  /** From now on it takes nothing. */
  down(folder: string): Promise<void>
  up(folder: string): Promise<void>
  close(): Promise<void>
}

const ROWS = (from: number, to: number) =>
  `SELECT i::BIGINT AS id, 'name ' || i AS name FROM range(${from}, ${to}) AS t(i)`

/** Values that a careless encoding changes, as SQL and as they must arrive. */
const EXACT: readonly (readonly [string, string])[] = [
  ['9007199254740993::BIGINT', '9007199254740993'],
  ["'-9223372036854775808'::BIGINT", '-9223372036854775808'],
  ["'12345678901234567890.123456789012345678'::DECIMAL(38,18)", '12345678901234567890.123456789012345678'],
  ["'0.25'::DECIMAL(4,2)", '0.25'],
  ['\'é "quoted", 😀 עברית\'', 'é "quoted", 😀 עברית'],
  ["'2026-03-01'::DATE", '2026-03-01'],
]

export function consumerConformance<Options>(
  name: string,
  type: string,
  definition: ConsumerDefinition<Options>,
  makeFixture: () => Promise<ConsumerFixture>,
): void {
  describe(`the consumer ${name}`, () => {
    let fixture: ConsumerFixture
    let bench: OutboxBench
    const fast = { retry: { initial: '20ms', max: '100ms' }, breaker: { pause: '50ms' }, patience: '500ms' }
    beforeEach(async () => {
      fixture = await makeFixture()
      bench = new OutboxBench({ distribute: { target: { type, ...fixture.options, ...fast } } })
    })
    afterEach(async () => {
      await fixture.close()
      bench.remove()
    })

    const ids = async () => {
      const rows = await fixture.received(bench.folder)
      return rows.map(({ id }) => Number(id)).sort((a, b) => a - b)
    }
    const upTo = (count: number) => Array.from({ length: count }, (_, id) => id)
    const create = async () => {
      const [config] = (await bench.job).distribute
      const env = { id: 'target', job: 'bench', baseDir: bench.folder, log: pino({ level: 'silent' }) }
      return definition.create(config?.options as Options, env)
    }

    it('says in one sentence what it is, describes every option, and has an example that they accept', () => {
      expect(definition.summary).toMatch(/^[A-Z].*\.$/)
      expect(optionRows('consumer', type, definition as ConsumerDefinition).length).toBeGreaterThan(0)
      expect(strict(definition.options).safeParse(definition.example).error).toBeUndefined()
    })

    it('names its endpoints, and may be closed twice', async () => {
      const consumer = await create()
      expect(consumer.endpoints.length).toBeGreaterThan(0)
      await consumer.close()
      await consumer.close()
    })

    it('gets every row of every batch once, in no trace of a batch without rows', async () => {
      await bench.put(ROWS(0, 40))
      await bench.put(ROWS(0, 0))
      await bench.put(ROWS(40, 60))
      expect(await bench.workOff()).toEqual({ target: { delivered: 60, dead: 0, owed: 0 } })
      expect(await ids()).toEqual(upTo(60))
      expect(await bench.workOff()).toEqual({ target: { delivered: 0, dead: 0, owed: 0 } })
      expect(await ids()).toEqual(upTo(60))
    })

    it('gets values exactly', async () => {
      const items = EXACT.map(([sql], index) => `${sql} AS v${index}`)
      await bench.put(`SELECT 1::BIGINT AS id, ${items.join(', ')}`)
      await bench.workOff()
      const [row = {}] = await fixture.received(bench.folder)
      expect(EXACT.map((_, index) => row[`v${index}`])).toEqual(EXACT.map(([, expected]) => expected))
    })

    it('is owed what it does not take while it is down, and gets it when it is back', async () => {
      await bench.put(ROWS(0, 10))
      await bench.workOff()
      await fixture.down(bench.folder)
      await bench.put(ROWS(10, 30))
      await bench.put(ROWS(30, 50))
      const { target } = await bench.workOff()
      expect(target).toMatchObject({
        delivered: 0,
        dead: 0,
        owed: 40,
        reason: expect.stringContaining('taken nothing'),
      })
      await fixture.up(bench.folder)
      expect(await bench.workOff()).toEqual({ target: { delivered: 40, dead: 0, owed: 0 } })
      expect(await ids()).toEqual(upTo(50))
    })

    it('gets what `where` keeps and `select` makes of it', async () => {
      const more = { where: 'id % 2 = 0', select: { id: 'id', twice: 'id * 2' } }
      bench.change({ target: { type, ...fixture.options, ...fast, ...more } })
      await bench.put(ROWS(0, 10))
      expect(await bench.workOff()).toEqual({ target: { delivered: 5, dead: 0, owed: 0 } })
      const rows = await fixture.received(bench.folder)
      expect(rows.map(({ id, twice, name: none }) => [Number(id), Number(twice), none])).toEqual(
        [0, 2, 4, 6, 8].map((id) => [id, id * 2, undefined]),
      )
    })
  })
}
