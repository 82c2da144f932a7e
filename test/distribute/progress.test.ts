import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Progress } from '../../src/distribute/progress.ts'

let folder: string
let path: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-progress-'))
  path = join(folder, 'x.progress')
})

afterEach(() => rmSync(folder, { recursive: true, force: true }))

it('remembers what is through, and attempts that failed', async () => {
  const progress = await Progress.open(path)
  expect(progress.fresh).toBe(true)
  await progress.tried(3, { attempts: 2, firstMs: 1000 })
  await Promise.all([progress.settle(0, 'delivered', 5), progress.settle(1, 'dead', 2)])
  await progress.close()
  const again = await Progress.open(path)
  expect(again).toMatchObject({ fresh: false, deliveredRows: 5, deadRows: 2 })
  expect([0, 1, 2, 3].map((index) => again.isSettled(index))).toEqual([true, true, false, false])
  expect(again.triesOf(3)).toEqual({ attempts: 2, firstMs: 1000 })
  await again.close()
})

it('counts no line that a kill has torn, wherever it was cut', async () => {
  const whole = 'd 0 1\nd 12 34\n'
  for (let length = 6; length < whole.length; length += 1) {
    writeFileSync(path, whole.slice(0, length))
    const progress = await Progress.open(path)
    expect(progress.isSettled(0)).toBe(true)
    expect(progress.isSettled(12)).toBe(false)
    await progress.settle(7, 'delivered', 1)
    await progress.close()
    expect(readFileSync(path, 'latin1')).toBe('d 0 1\nd 7 1\n')
  }
})
