import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Engine } from '../../src/engine/session.ts'
import { temporaryFolder } from '../harness/cli.ts'

it('lets go of blocks that are gone beside statements that are under way, which lose nothing', async () => {
  const folder = temporaryFolder('forget')
  const attach = [{ file: join(folder.path, 'kept.duckdb'), as: 'kept' }]
  const tempFolder = join(folder.path, 'temp')
  const engine = await Engine.open({ memoryBytes: 256_000_000, threads: 2, tempFolder, attach })
  const [session, other] = [await engine.connect(), await engine.connect()]
  const inMemory = () =>
    session.value(
      `SELECT sum(memory_usage_bytes)::DOUBLE FROM duckdb_memory() WHERE tag IN ('BASE_TABLE', 'IN_MEMORY_TABLE')`,
    )
  try {
    await session.run('CREATE TABLE kept.ids AS SELECT i AS id FROM range(300000) t(i)')
    await session.run('CREATE TEMP TABLE own AS SELECT i AS id, md5(i::VARCHAR) AS text FROM range(200000) t(i)')
    const before = Number(await inMemory())
    await engine.forgetBlocks()
    expect(Number(await inMemory())).toBeLessThan(before / 4)
    const joined = 'SELECT count(DISTINCT text) FROM own JOIN kept.ids USING (id)'
    for (let round = 0; round < 3; round += 1) {
      const asked = [session.value(joined), other.value('SELECT sum(id)::BIGINT FROM kept.ids')]
      await engine.forgetBlocks()
      await other.run(`INSERT INTO kept.ids SELECT 300000 + ${round}`)
      expect(await Promise.all(asked)).toEqual([
        200_000n,
        ((300_000n + BigInt(round)) * (299_999n + BigInt(round))) / 2n,
      ])
    }
  } finally {
    session.close()
    other.close()
    engine.close()
    folder.remove()
  }
})
