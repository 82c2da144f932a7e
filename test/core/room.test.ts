import { expect, it } from 'vitest'
import { Room } from '../../src/core/room.ts'

it('lets in what fits, in the order of coming, and what is too large alone', async () => {
  const room = new Room(10)
  const inside: string[] = []
  const enter = (name: string, size: number) => room.enter(size).then(() => inside.push(name))
  await Promise.all([enter('a', 6), enter('b', 4)])
  const later = [enter('large', 99), enter('small', 1)]
  room.leave(6)
  await Promise.resolve()
  // The small one would fit, and does not overtake.
  expect(inside).toEqual(['a', 'b'])
  room.leave(4)
  await later[0]
  expect(inside).toEqual(['a', 'b', 'large'])
  room.leave(99)
  await later[1]
  expect(inside).toEqual(['a', 'b', 'large', 'small'])
})
