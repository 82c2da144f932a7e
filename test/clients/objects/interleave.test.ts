import { describe, expect, it } from 'vitest'
import { interleave } from '../../../src/clients/objects/interleave.ts'

const live = new AbortController().signal
const nothing = async (): Promise<void> => undefined

/** Counts what it was asked for, so that a test sees how far ahead it was read. */
function counting(name: string, count: number, log: string[]) {
  return async function* (): AsyncGenerator<string> {
    try {
      for (let n = 0; n < count; n += 1) {
        log.push(`${name}${n}`)
        yield `${name}${n}`
      }
    } finally {
      log.push(`${name} closed`)
    }
  }
}

describe('lanes that are read at the same time', () => {
  it('give all their items, each lane in its order', async () => {
    const sources = ['a', 'b', 'c', 'd'].map((name) => counting(name, 3, []))
    const items: string[] = []
    for await (const item of interleave(sources, 2, live, nothing)) items.push(item)
    for (const name of ['a', 'b', 'c', 'd'])
      expect(items.filter((item) => item.startsWith(name))).toEqual([`${name}0`, `${name}1`, `${name}2`])
    expect(items).toHaveLength(12)
  })

  it('are read one item ahead at most, and never more lanes than allowed', async () => {
    const log: string[] = []
    const reading = interleave(
      ['a', 'b', 'c'].map((name) => counting(name, 9, log)),
      2,
      live,
      nothing,
    )
    await reading.next()
    expect(log.sort()).toEqual(['a0', 'b0'])
    await reading.return(undefined)
  })

  it('are closed when the consumer stops, and items that were ready are handed back', async () => {
    const log: string[] = []
    const dropped: string[] = []
    for await (const item of interleave(
      [counting('a', 9, log), counting('b', 9, log)],
      2,
      live,
      async (it) => void dropped.push(it),
    )) {
      expect(item).toBe('a0')
      break
    }
    expect(log.sort()).toEqual(['a closed', 'a0', 'b closed', 'b0'])
    expect(dropped).toEqual(['b0'])
  })

  it('end without an error when the signal comes, even while all of them wait', async () => {
    const stop = new AbortController()
    const never = async function* (): AsyncGenerator<string> {
      await new Promise((_, reject) => stop.signal.addEventListener('abort', () => reject(new Error('stopped'))))
    }
    const reading = interleave([never], 2, stop.signal, nothing)
    const next = reading.next()
    stop.abort()
    expect(await next).toEqual({ done: true, value: undefined })
  })

  it('fail together with the one that fails', async () => {
    const log: string[] = []
    const failing = async function* (): AsyncGenerator<string> {
      yield 'first'
      throw new Error('the disk is full')
    }
    const reading = interleave([counting('a', 9, log), failing], 2, live, nothing)
    await expect(
      (async () => {
        for await (const _ of reading);
      })(),
    ).rejects.toThrow('the disk is full')
    expect(log).toContain('a closed')
  })
})
