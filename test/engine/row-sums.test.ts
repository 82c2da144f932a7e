import { afterAll, expect, it } from 'vitest'
import { sumOfRows } from '../../src/engine/row-sums.ts'
import { Engine } from '../../src/engine/session.ts'

const engine = await Engine.open({ memoryBytes: 100_000_000, threads: 2, tempFolder: '/tmp' })
afterAll(() => engine.close())

it.each([0, 1, 999_999, 1_000_000, 2_000_001, 24_000_000, 24_500_000])(
  'adds up the hashes of %i row numbers as the engine does',
  async (rows) => {
    const session = await engine.connect()
    const asked = await session.value(`SELECT coalesce(sum(hash(i)), 0)::HUGEINT FROM range(${rows}) AS numbers(i)`)
    expect(await sumOfRows(session, rows)).toBe(String(asked))
    session.close()
  },
)
