import { expect, test } from 'vitest'
import { GroupCommit } from '../../src/core/group-commit.ts'

/** Commits wait until the test lets them go. */
function gated() {
  const started: { readonly items: readonly string[]; readonly gate: PromiseWithResolvers<void> }[] = []
  const group = new GroupCommit<string>((items) => {
    const gate = Promise.withResolvers<void>()
    started.push({ items, gate })
    return gate.promise
  })
  return { group, started }
}

test('items of one turn share one commit; items that come during a commit share the next', async () => {
  const { group, started } = gated()
  const first = Promise.all([group.add('a'), group.add('b')])
  await Promise.resolve()
  const second = Promise.all([group.add('c'), group.add('d')])
  expect(started.map(({ items }) => items)).toEqual([['a', 'b']])
  started[0]?.gate.resolve()
  await first
  expect(started.map(({ items }) => items)).toEqual([
    ['a', 'b'],
    ['c', 'd'],
  ])
  started[1]?.gate.resolve()
  await second
  await group.idle()
  const third = group.add('e')
  await Promise.resolve()
  started[2]?.gate.resolve()
  await third
  expect(started).toHaveLength(3)
})

test('after a failed commit all that wait and all that come later get its error, and nothing is committed any more', async () => {
  const { group, started } = gated()
  const first = group.add('a')
  await Promise.resolve()
  const second = group.add('b')
  const settled = Promise.allSettled([first, second])
  const error = new Error('disk')
  started[0]?.gate.reject(error)
  expect(await settled).toEqual([
    { status: 'rejected', reason: error },
    { status: 'rejected', reason: error },
  ])
  await expect(group.add('c')).rejects.toBe(error)
  await group.idle()
  expect(group.failure).toBe(error)
  expect(started).toHaveLength(1)
})

test('a poisoned group rejects what waits, and the commit on its way still counts', async () => {
  const { group, started } = gated()
  const first = group.add('a')
  await Promise.resolve()
  const second = group.add('b')
  const error = new Error('stop')
  group.poison(error)
  await expect(second).rejects.toBe(error)
  started[0]?.gate.resolve()
  await first
  await group.idle()
  expect(started).toHaveLength(1)
})
