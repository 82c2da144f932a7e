import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine, type Session } from '../../src/engine/session.ts'
import { unlessRefused } from '../../src/runtime/unless-refused.ts'

/** Would take days. */
const ENDLESS = 'SELECT max(hash(i)) FROM range(1_000_000_000_000_000) s(i)'

let tempFolder: string
let engine: Engine
let session: Session

beforeAll(async () => {
  tempFolder = await mkdtemp(join(tmpdir(), 'adflow-refused-'))
  engine = await Engine.open({ memoryBytes: 500_000_000, threads: 2, tempFolder })
  session = await engine.connect()
})
afterAll(async () => {
  engine.close()
  await rm(tempFolder, { recursive: true, force: true })
})

describe('a statement whose result is refused', () => {
  it.each([
    ['before it is given', 0],
    ['as it begins', 1],
    ['while it runs', 50],
  ])('ends early when that is known %s, and the next one is as any other', async (_when, ms) => {
    const counting = ms === 0 ? Promise.resolve(false) : sleep(ms, false)
    await expect(unlessRefused(counting, session, () => session.value(ENDLESS))).rejects.toThrow(/interrupt/i)
    expect(await session.value('SELECT 7')).toBe(7)
  })

  it('ends early between two of them', async () => {
    const work = async () => {
      for (let n = 0; n < 1000; n += 1) await session.value('SELECT 1')
      return session.value(ENDLESS)
    }
    await expect(unlessRefused(sleep(5, false), session, work)).rejects.toThrow(/interrupt/i)
  })
})

it.each([
  ['is clean', async () => true],
  ['cannot be counted', () => Promise.reject<boolean>(new Error('no disk'))],
  ['is not counted', undefined],
])('runs to its end where the source %s', async (_what, count) => {
  expect(await unlessRefused(count?.(), session, () => session.value('SELECT 7'))).toBe(7)
})
