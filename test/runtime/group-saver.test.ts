import { mkdirSync, rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCheckpoints } from '../../src/runtime/checkpoints.ts'
import { GroupSaver } from '../../src/runtime/group-saver.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'adflow-saver-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const durable = async () => (await openCheckpoints(dir, 'ads')).current

test('an update is visible at once and durable when its promise resolves', async () => {
  const saver = new GroupSaver(await openCheckpoints(dir, 'ads'))
  const update = saver.update((draft) => {
    draft.sources['ads'] = { l: { at: '7' } }
  })
  expect(saver.state.sources).toEqual({ ads: { l: { at: '7' } } })
  await update
  expect((await durable()).sources).toEqual({ ads: { l: { at: '7' } } })
})

test('a thousand updates at once take few saves, and each is in the save that its promise waited for', async () => {
  const checkpoints = await openCheckpoints(dir, 'ads')
  const saver = new GroupSaver(checkpoints)
  const updates = Array.from({ length: 1000 }, async (_, i) => {
    if (i % 100 === 0) await checkpoints.current
    for (let turn = 0; turn < i % 50; turn += 1) await Promise.resolve()
    const lane = `l${i}`
    await saver.update((draft) => {
      draft.sources['ads'] = { ...draft.sources['ads'], [lane]: { at: String(i) } }
    })
    expect(checkpoints.current.sources['ads']?.[lane]).toEqual({ at: String(i) })
  })
  await Promise.all(updates)
  await saver.idle()
  const { generation, sources } = await durable()
  expect(Object.keys(sources['ads'] ?? {})).toHaveLength(1000)
  expect(Number(generation)).toBeLessThan(20)
})

test('an update during a save does not slip into that save half done', async () => {
  const checkpoints = await openCheckpoints(dir, 'ads')
  const saver = new GroupSaver(checkpoints)
  const first = saver.update((draft) => {
    draft.sequence = '2'
  })
  await Promise.resolve()
  const second = saver.update((draft) => {
    draft.sequence = '3'
  })
  await first
  expect(checkpoints.current).toMatchObject({ generation: '1', sequence: '2' })
  await second
  expect(checkpoints.current).toMatchObject({ generation: '2', sequence: '3' })
})

test('after a failed save everything pending and everything later is rejected, and no save is tried again', async () => {
  const saver = new GroupSaver(await openCheckpoints(dir, 'ads'))
  rmSync(dir, { recursive: true })
  const first = saver.update((draft) => {
    draft.sequence = '2'
  })
  await Promise.resolve()
  const results = await Promise.allSettled([first, saver.update(() => undefined)])
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  mkdirSync(dir)
  let applied = false
  const later = saver.update(() => {
    applied = true
  })
  await expect(later).rejects.toMatchObject({ code: 'LOCAL_IO' })
  expect(applied).toBe(false)
  expect((await openCheckpoints(dir, 'ads')).fresh).toBe(true)
})

test('an update that throws half way is never saved', async () => {
  const saver = new GroupSaver(await openCheckpoints(dir, 'ads'))
  const broken = saver.update((draft) => {
    draft.sequence = '2'
    throw new Error('half way')
  })
  await expect(broken).rejects.toThrow('half way')
  await expect(saver.update(() => undefined)).rejects.toThrow('half way')
  await saver.idle()
  expect((await openCheckpoints(dir, 'ads')).fresh).toBe(true)
})

test('it knows what a damaged checkpoint falls back to: the one before the newest that is durable', async () => {
  const saver = new GroupSaver(await openCheckpoints(dir, 'ads'))
  const moveTo = (at: string) =>
    saver.update((draft) => {
      draft.sources['ads'] = { l: { at } }
    })
  await moveTo('1')
  expect(saver.fallback.sources).toEqual({})
  await moveTo('2')
  const third = moveTo('3')
  expect(saver.fallback.sources).toEqual({ ads: { l: { at: '1' } } })
  await third
  expect(saver.fallback.sources).toEqual({ ads: { l: { at: '2' } } })
})
