import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { TokenLog } from '../../src/core/token-log.ts'

const [A, B, C] = ['a', 'b', 'c'].map((letter) => letter.repeat(64)) as [string, string, string]
let folder: string
let path: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-tokens-'))
  path = join(folder, 'passed')
})

afterEach(() => rmSync(folder, { recursive: true, force: true }))

it('remembers tokens, each once, also for whoever opens it later', async () => {
  const log = await TokenLog.open(path)
  await Promise.all([log.add(A), log.add(B)])
  await log.add(A)
  await log.close()
  expect(readFileSync(path, 'latin1')).toBe(`${A}\n${B}\n`)
  const again = await TokenLog.open(path)
  expect([A, B, C].map((token) => again.has(token))).toEqual([true, true, false])
  await again.close()
})

it('forgets a token that a kill has torn, and goes on behind the last whole one', async () => {
  for (let length = 0; length <= 64; length += 1) {
    writeFileSync(path, `${A}\n${B.slice(0, length)}`)
    const log = await TokenLog.open(path)
    expect(log.has(B)).toBe(false)
    await log.add(C)
    await log.close()
    expect(readFileSync(path, 'latin1')).toBe(`${A}\n${C}\n`)
  }
})

it('refuses a file that is damaged further up, and leaves it as it is', async () => {
  writeFileSync(path, `${A}\n${B.slice(1)}\n`)
  appendFileSync(path, `${C}\n`)
  const before = readFileSync(path)
  await expect(TokenLog.open(path)).rejects.toMatchObject({ code: 'STATE_DAMAGED', message: /line 2 of/ })
  expect(readFileSync(path)).toEqual(before)
})
