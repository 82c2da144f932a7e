import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { PoolClient } from 'pg'
import { expect, test } from 'vitest'
import { EngineCopy } from '../../../src/clients/postgres/state/engine-copy.ts'
import type { Extents } from '../../../src/clients/postgres/state/extents.ts'
import { Engine } from '../../../src/engine/session.ts'
import { temporaryFolder } from '../../harness/cli.ts'

const NO_CLIENT = {} as PoolClient

test('a checkpoint while the file is read makes it be read again: its log would be played back twice', async () => {
  const { path: root, remove } = temporaryFolder('engine-copy')
  const [here, there] = [join(root, 'here'), join(root, 'there')]
  for (const folder of [here, there]) await mkdir(folder)
  const engine = await engineIn(here)
  const session = await engine.connect()
  await session.run('CREATE TABLE state.marks (key INTEGER)')
  await session.run('INSERT INTO state.marks SELECT i FROM range(1000) AS r(i)')

  const pieces = new Map<string, Map<number, Uint8Array>>()
  let puts = 0
  const extents = {
    put: async (_client: PoolClient, _epoch: number, path: string, at: number, bytes: Uint8Array) => {
      pieces.set(path, (pieces.get(path) ?? new Map()).set(at, Buffer.from(bytes)))
      puts += 1
      // The log has been read, the file not yet.
      if (puts === 1) await session.run('CHECKPOINT state')
      return ''
    },
    drop: async (_client: PoolClient, path: string, from = 0) => {
      for (const at of pieces.get(path)?.keys() ?? []) if (at >= from) pieces.get(path)?.delete(at)
    },
  }
  const copy = new EngineCopy(here, extents as unknown as Extents, new Map())
  const change = await copy.look()
  await change?.send(NO_CLIENT, 1)
  change?.done()
  session.close()
  engine.close()

  for (const [path, parts] of pieces) {
    if (parts.size === 0) continue
    const handle = await open(join(there, path), 'w')
    for (const [at, bytes] of parts) await handle.write(bytes, 0, bytes.length, at)
    await handle.close()
  }
  const other = await engineIn(there)
  const reader = await other.connect()
  expect(await reader.rows('SELECT count(*)::INTEGER AS n FROM state.marks')).toEqual([{ n: 1000 }])
  reader.close()
  other.close()
  remove()
})

async function engineIn(folder: string): Promise<Engine> {
  const temp = join(folder, 'temp')
  const engine = await Engine.open({ memoryBytes: 256_000_000, threads: 1, tempFolder: temp, locked: false })
  const session = await engine.connect()
  await session.attach(join(folder, 'state.duckdb'), 'state', false)
  session.close()
  return engine
}
