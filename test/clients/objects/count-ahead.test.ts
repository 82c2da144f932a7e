import { mkdir, mkdtempDisposable, readdir, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import { type AheadRequest, CountAhead } from '../../../src/clients/objects/count-ahead.ts'
import { fileFacts } from '../../../src/clients/objects/discover.ts'
import { LocalPlace } from '../../../src/clients/objects/local-place.ts'
import { wholeFile } from '../../../src/clients/objects/whole-file.ts'

const LINES = 1000

it('goes on as the count of the chunk that is made of the file', async () => {
  await using given = await source()
  given.begin()
  const facts = await factsOf(given.file)
  const begun = await given.ahead.take(given.file, facts)
  if (begun === undefined) throw new Error('no count was begun')
  expect((await stat(begun.readable.file)).ino).toBe((await stat(given.file)).ino)
  const chunk = wholeFile(begun)
  expect(await chunk.counted?.()).toBe(true)
  expect(chunk.records).toBe(LINES)
  expect(chunk.integers).toEqual(['a'])
  await given.ahead.stop()
  expect(await given.links()).toHaveLength(1)
  await chunk.discard()
  expect(await given.links()).toEqual([])
})

it('is no count of a file that is another one by now, or of another name', async () => {
  await using given = await source()
  given.begin()
  await vi.waitFor(async () => expect(await given.links()).toHaveLength(1))
  await utimes(given.file, 1, 1)
  expect(await given.ahead.take(given.file, await factsOf(given.file))).toBeUndefined()
  expect(await given.links()).toEqual([])
  given.begin()
  expect(await given.ahead.take(`${given.file}.other`, await factsOf(given.file))).toBeUndefined()
  expect(await given.links()).toEqual([])
})

it.each<readonly [string, Partial<AheadRequest>]>([
  ['is small', { chunkBytes: 1e6 }],
  ['is too large', { wholeBytes: 100 }],
  ['is no NDJSON', { format: 'csv' }],
  ['is compressed', { compression: 'gzip' }],
  ['may still be written', { settleMs: 60_000, unterminated: 'settle' }],
  ['has been read before', { known: [{ lane: 'a.ndjson', at: 1, mark: undefined }] }],
])('is not begun where the file %s', async (_, request) => {
  await using given = await source()
  given.begin(request)
  expect(await given.ahead.take(given.file, await factsOf(given.file))).toBeUndefined()
  expect(await given.links()).toEqual([])
})

async function factsOf(path: string) {
  const facts = await fileFacts(path)
  if (facts === undefined) throw new Error(`${path} is no file`)
  return facts
}

async function source() {
  const folder = await mkdtempDisposable(join(tmpdir(), 'adflow-ahead-'))
  const file = join(folder.path, 'a.ndjson')
  const chunkDir = join(folder.path, 'chunks')
  await mkdir(chunkDir)
  await writeFile(file, '{"a":1}\n'.repeat(LINES))
  const place = new LocalPlace({ patterns: ['*.ndjson'], exclude: [], baseDir: folder.path, allowEmpty: false })
  const ahead = new CountAhead(place)
  const request: AheadRequest = {
    ...{ format: undefined, compression: 'auto', settleMs: 0, unterminated: 'settle', known: [] },
    ...{ chunkDir, folders: [folder.path], chunkBytes: 1000, wholeBytes: 1e6, maxRecordBytes: 100, integers: ['a'] },
  }
  return {
    file,
    ahead,
    begin: (other: Partial<AheadRequest> = {}) => ahead.begin({ ...request, ...other }),
    links: () => readdir(chunkDir),
    async [Symbol.asyncDispose]() {
      await ahead.stop()
      await folder.remove()
    },
  }
}
