import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type Item, type Origin, Window } from '../../src/distribute/window.ts'

const nowhere: Origin = { delivered: async () => undefined, dead: async () => undefined, tried: async () => undefined }

function itemOf(index: number, keys: readonly string[]): Item {
  const message = { index, id: String(index), keys, rows: 1, body: 'x', attributes: {} }
  return { message, origin: nowhere, attempts: 0, firstMs: undefined, notBefore: 0, underWay: false }
}

it('never lets a message pass an earlier one with a key in common, whatever fails and however long', () => {
  const keys = fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { maxLength: 2 })
  const step = fc.record({ which: fc.nat(), fails: fc.boolean(), pause: fc.nat(3) })
  fc.assert(
    fc.property(fc.array(keys, { maxLength: 30 }), fc.array(step, { maxLength: 200 }), (messages, steps) => {
      const window = new Window()
      for (const [index, own] of messages.entries()) window.add(itemOf(index, own))
      const through: Item[] = []
      let now = 0
      const underWay: Item[] = []
      for (const { which, fails, pause } of steps) {
        now += 1
        const next = window.next(now)
        if (next !== undefined && which % 2 === 0) {
          window.start(next)
          underWay.push(next)
          continue
        }
        const [item] = underWay.splice(which % Math.max(1, underWay.length), 1)
        if (item === undefined) continue
        if (fails) window.stop(item, now + pause)
        else {
          window.remove(item)
          through.push(item)
        }
      }
      for (const key of ['a', 'b', 'c']) {
        const order = through.filter(({ message }) => message.keys.includes(key)).map(({ message }) => message.index)
        expect(order).toEqual([...order].sort((a, b) => a - b))
      }
      expect(window.size).toBe(messages.length - through.length)
      expect(window.underWay).toBe(underWay.length)
    }),
  )
})

it('says when the next message may go', () => {
  const window = new Window()
  const [first, second] = [itemOf(0, ['a']), itemOf(1, ['a'])]
  window.add(first)
  window.add(second)
  window.start(first)
  expect(window.nextAt()).toBeUndefined()
  window.stop(first, 500)
  expect(window.next(499)).toBeUndefined()
  expect(window.nextAt()).toBe(500)
  expect(window.next(500)).toBe(first)
  window.remove(first)
  expect(window.next(0)).toBe(second)
})
