import { tmpdir } from 'node:os'
import { expect, it } from 'vitest'
import { Engine } from '../../src/engine/session.ts'

it('shares its threads among batches behind the lock and gives back what is free or gone, and changes nothing else there', async () => {
  const engine = await Engine.open({ memoryBytes: 256_000_000, threads: 3, tempFolder: tmpdir() })
  const session = await engine.connect()
  const shared = () =>
    session.value(`SELECT current_setting('external_threads') || ' of ' || current_setting('threads')`)
  try {
    await engine.shareAmong(2)
    expect(await shared()).toBe('2 of 3')
    await engine.shareAmong(9)
    expect(await shared()).toBe('1 of 1')
    await engine.shareAmong(2)
    expect(await shared()).toBe('1 of 1')
    for (const setting of [
      'preserve_insertion_order = false',
      `allowed_configs = ['threads']`,
      'enable_external_access = true',
    ])
      await expect(session.run(`SET GLOBAL ${setting}`), setting).rejects.toThrow(/locked/)
    await engine.giveBack()
    await engine.forgetBlocks()
    expect(await session.value(`SELECT current_setting('memory_limit')`)).toBe('244.1 MiB')
  } finally {
    session.close()
    engine.close()
  }
})
