import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { following } from '../../../src/clients/objects/follow-file.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-follow-'))
})
afterAll(() => rm(folder, { recursive: true }))

const sha256 = async (path: string) =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex')

describe('a file that is followed while it is written', () => {
  it.each([
    ['nothing', [], 0],
    ['one byte', [1], 0],
    ['more than a piece at once', [3_000_001], 0],
    ['many parts, slowly', [70_000, 5, 1_500_000, 0, 1, 40_000_000], 60],
  ])('has the digest of all its bytes: %s', async (_, parts, pauseMs) => {
    const path = join(folder, 'file')
    const { result, digest } = await following(path, async () => {
      const handle = await open(path, 'w')
      for (const [index, length] of parts.entries()) {
        await handle.write(Buffer.alloc(length, index + 65))
        await delay(pauseMs)
      }
      await handle.close()
      return 'written'
    })
    const bytes = parts.reduce((total, length) => total + length, 0)
    expect({ result, digest }).toEqual({ result: 'written', digest: { bytes, sha256: await sha256(path) } })
  })

  it('is hashed anew when its writer has gone back to the beginning', async () => {
    const path = join(folder, 'header')
    const { digest } = await following(path, async () => {
      const handle = await open(path, 'w')
      await handle.write('length unknown, and then the rows')
      await delay(150)
      await handle.write('length 0000033', 0)
      await handle.close()
    })
    expect(digest.sha256).toBe(await sha256(path))
  })

  it('fails as its writer fails, also before there is a file', async () => {
    const path = join(folder, 'none')
    const failing = following(path, () => Promise.reject(new Error('disk full')))
    await expect(failing).rejects.toThrow('disk full')
    expect(existsSync(path)).toBe(false)
    await expect(following(path, async () => undefined)).rejects.toMatchObject({ message: /read back/ })
  })
})
