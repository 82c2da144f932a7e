import { afterAll, expect, it } from 'vitest'
import { Engine } from '../../src/engine/session.ts'
import { askType, PLAIN_TYPES } from '../../src/engine/types.ts'

const engine = await Engine.open({ memoryBytes: 100_000_000, threads: 1, tempFolder: '/tmp' })
afterAll(() => engine.close())

it('knows of plain types what the engine says of them', async () => {
  const session = await engine.connect()
  for (const [name, tree] of Object.entries(PLAIN_TYPES)) expect(await askType(session, name)).toEqual(tree)
  session.close()
})
