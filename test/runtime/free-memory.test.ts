import { expect, it } from 'vitest'
import { AdflowError } from '../../src/core/errors.ts'
import { FreeMemory } from '../../src/runtime/free-memory.ts'

const MIB = 2 ** 20

it('gives free memory back where more is held than before, once a second at most, and counts from what is held then', async () => {
  let resident = 100 * MIB
  const given: number[] = []
  const forgetBlocks = () => Promise.reject(new Error('not that often'))
  const giveBack = async () => {
    given.push(resident / MIB)
    resident -= 20 * MIB
  }
  const free = new FreeMemory({ giveBack, forgetBlocks }, 'forever', () => resident, 0)
  const at = async (ms: number, mib: number) => {
    resident = mib * MIB
    await free.look(ms)
  }
  await at(1000, 131)
  expect(given).toEqual([])
  await at(1001, 140)
  await at(1999, 300)
  expect(given).toEqual([140])
  await at(2001, 150)
  expect(given).toEqual([140])
  await at(2002, 155)
  expect(given).toEqual([140, 155])
  await at(4000, 90)
  await at(4001, 125)
  expect(given).toEqual([140, 155, 125])
})

it('waits for ten seconds in a run that ends by itself', async () => {
  const given: number[] = []
  let atMs = 0
  const giveBack = async () => void given.push(atMs)
  const free = new FreeMemory({ giveBack, forgetBlocks: giveBack }, 'once', grown(), 0)
  for (; atMs < 25_000; atMs += 500) await free.look(atMs)
  expect(given).toEqual([10_000, 20_000])
})

it('goes on where all of the limit is in use, and tells of any other failure', async () => {
  const full = new AdflowError('OUT_OF_MEMORY', 'the limit cannot be kept')
  const fails = (error: Error) => () => Promise.reject(error)
  const failing = (error: Error) =>
    new FreeMemory({ giveBack: fails(error), forgetBlocks: fails(error) }, 'forever', grown(), -1000)
  await failing(full).look(1)
  await expect(failing(new Error('broken')).look(1)).rejects.toThrow('broken')
})

it('has the engine forget what is gone with every 500th batch, however little is held', async () => {
  const asked: number[] = []
  let batch = 0
  const giveBack = () => Promise.reject(new Error('nothing is free'))
  const free = new FreeMemory(
    { giveBack, forgetBlocks: async () => void asked.push(batch) },
    'forever',
    () => 100 * MIB,
  )
  for (batch = 1; batch <= 1100; batch += 1) await free.look(1)
  expect(asked).toEqual([500, 1000])
})

function grown(): () => number {
  let resident = 0
  return () => (resident += 64 * MIB)
}

it('is told after the last batch what went wrong while that was published', async () => {
  const nothing = async () => undefined
  const freeMemory = (giveBack: () => Promise<void>) =>
    new FreeMemory({ giveBack, forgetBlocks: nothing }, 'once', grown(), 0)
  await freeMemory(nothing).idle()
  const given: string[] = []
  const free = freeMemory(async () => void given.push('all'))
  free.begin()
  await free.idle()
  expect(given).toEqual(['all'])
  const broken = freeMemory(() => Promise.reject(new Error('broken')))
  broken.begin()
  await expect(broken.idle()).rejects.toThrow('broken')
})
