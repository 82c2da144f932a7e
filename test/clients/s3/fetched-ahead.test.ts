import { expect, it } from 'vitest'
import type { SourceFile } from '../../../src/clients/objects/discover.ts'
import { FetchedAhead } from '../../../src/clients/s3/fetched-ahead.ts'

const KIB = 1024

function object(path: string, size: number): SourceFile {
  const facts = { dev: '', ino: '', born: '', size, modified: '0', modifiedMs: 0, version: `"${path}"` }
  return { path, absolute: path, facts }
}

it('asks for sixteen small objects beyond the one that is opened, each once, and for none that is large or empty', async () => {
  const asked: string[] = []
  const ahead = new FetchedAhead(512 * KIB, async ({ path }) => {
    asked.push(path)
    if (path === '3') throw new Error('broken off')
    return Buffer.from(path)
  })
  const files = Array.from({ length: 40 }, (_, index) =>
    object(String(index), index === 5 ? 513 * KIB : index === 6 ? 0 : 1),
  )
  ahead.expect(files)
  const opened = files.map((file) => ({ bytes: ahead.take(file), asked: asked.length }))

  expect(opened[0]).toEqual({ bytes: undefined, asked: 16 })
  expect(asked).toEqual(files.map(({ path }) => path).filter((path) => !['0', '5', '6'].includes(path)))
  expect(Math.max(...opened.map((one, index) => one.asked - index))).toBe(16)
  expect(String(await opened[4]?.bytes)).toBe('4')
  await expect(opened[3]?.bytes).rejects.toThrow('broken off')
  expect([opened[5]?.bytes, opened[6]?.bytes, ahead.take(files[7] as SourceFile)]).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})
