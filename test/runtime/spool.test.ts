import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Spool } from '../../src/runtime/spool.ts'
import { temporaryFolder } from '../harness/cli.ts'

function put(folder: string, sequence: number, lane: string): void {
  const range = { lane, from: String(sequence), to: String(sequence + 1) }
  const batch = {
    token: `t${sequence}`,
    sequence: String(sequence),
    source: 's',
    range,
    rows: 10,
    bytes: 100,
    columns: [],
  }
  writeFileSync(join(folder, `t${sequence}.json`), JSON.stringify(batch))
}

it('knows what it holds, and the first of each lane, as batches leave it', async () => {
  const folder = temporaryFolder('spool')
  for (const [sequence, lane] of [
    [10, 'a'],
    [9, 'b'],
    [2, 'a'],
    [11, 'a'],
  ] as const)
    put(folder.path, sequence, lane)
  const spool = new Spool(folder.path)
  await spool.open()
  expect(spool.owed.map(({ sequence }) => sequence)).toEqual(['2', '9', '10', '11'])
  expect([spool.size, spool.rows, spool.bytes]).toEqual([4, 40, 400])
  const firsts = () => ['a', 'b'].map((lane) => spool.firstOf('s', lane)?.sequence)
  expect(firsts()).toEqual(['2', '9'])
  for (const batch of spool.owed.slice(0, 2)) await spool.remove(batch)
  expect(firsts()).toEqual(['10', undefined])
  expect([spool.size, spool.rows, spool.bytes]).toEqual([2, 20, 200])
  folder.remove()
})
