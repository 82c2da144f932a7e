import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Engine } from '../../src/engine/session.ts'

it('ends what is under way before a session is closed, and refuses what waits behind it', async () => {
  const tempFolder = await mkdtemp(join(tmpdir(), 'adflow-session-'))
  const engine = await Engine.open({ memoryBytes: 500_000_000, threads: 2, tempFolder })
  try {
    for (let round = 0; round < 20; round += 1) {
      const session = await engine.connect()
      const underWay = session.value(`SELECT sum(i * ${round})::BIGINT FROM range(3000000) s(i)`)
      const waiting = session.run('SELECT 1')
      await new Promise((resolve) => setImmediate(resolve))
      session.close()
      session.close()
      await expect(waiting).rejects.toThrow('the connection to the engine is closed')
      expect(await underWay).toBe(4499998500000n * BigInt(round))
    }
  } finally {
    engine.close()
    await rm(tempFolder, { recursive: true, force: true })
  }
})
