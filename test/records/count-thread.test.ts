import { mkdtempDisposable, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { expect, it } from 'vitest'
import { AdflowError } from '../../src/core/errors.ts'
import { digestOf } from '../../src/records/chunk-file.ts'
import type { CountRequest } from '../../src/records/count-file.ts'
import { countBeside } from '../../src/records/count-thread.ts'

const going = new AbortController().signal

it('counts records, lines and the sum of all bytes in pieces, whatever the last line ends with', async () => {
  const line = '{"a":"é"}\n'
  const text = `${line.repeat(100_000)}\n \r\n{"last":1}`
  await using file = await given(text)
  expect(await countBeside(file.request, going)).toEqual({
    records: 100_001,
    lines: 100_002,
    digest: digestOf(crc32(text)),
  })
  // What was appended since the file was looked at belongs to a later run.
  const first = Buffer.byteLength(line)
  expect(await countBeside({ ...file.request, bytes: first }, going)).toMatchObject({ records: 1 })
})

it('gives nothing where a record is longer than it may be', async () => {
  await using file = await given(`{"a":1}\n{"a":"${'x'.repeat(600_000)}"}\n{"a":2}\n`)
  expect(await countBeside({ ...file.request, maxRecordBytes: 500_000 }, going)).toBeUndefined()
  expect(await countBeside(file.request, going)).toMatchObject({ records: 3 })
})

it('ends where an integer is none, and does not look at the rest', async () => {
  await using file = await given(`{"a":1}\n{"b":1.5}\n{"a":"2"}\n${'{"a":1}\n'.repeat(100_000)}{"a":1.5}\n{"a":1}\n`)
  const request = { ...file.request, integers: ['a'] }
  expect(await countBeside({ ...request, bytes: request.bytes + 100 }, going)).toBe('not plain')
  expect(await countBeside({ ...request, integers: ['a', 'b'] }, going)).toBe('not plain')
  expect(await countBeside({ ...request, integers: ['c'] }, going)).toMatchObject({ records: 100_005 })
})

it('says of a file that is shorter or gone what the same thread would have said', async () => {
  await using file = await given('{"a":1}\n')
  const { request } = file
  const changed = await countBeside({ ...request, bytes: 100 }, going).catch((error: unknown) => error)
  expect(changed).toBeInstanceOf(AdflowError)
  expect(changed).toMatchObject({ code: 'SOURCE_CHANGED', message: expect.stringContaining('source.ndjson') })
  await expect(countBeside({ ...request, file: `${request.file}.gone` }, going)).rejects.toMatchObject({
    code: 'SOURCE_UNREADABLE',
    hint: expect.stringContaining('exists'),
  })
})

it('ends when it is told to, also before it has begun, and leaves nothing behind that others meet', async () => {
  await using file = await given('{"a":1}\n'.repeat(1_000_000))
  const stop = new AbortController()
  const counting = countBeside(file.request, stop.signal)
  stop.abort(new Error('given up'))
  await expect(counting).rejects.toThrow('given up')
  await expect(countBeside(file.request, stop.signal)).rejects.toThrow('given up')
  const together = [1, 2, 3, 4].map(() => countBeside(file.request, going))
  expect((await Promise.all(together)).map((counted) => counted)).toMatchObject(Array(4).fill({ records: 1_000_000 }))
})

async function given(text: string): Promise<{ request: CountRequest; [Symbol.asyncDispose](): Promise<void> }> {
  const folder = await mkdtempDisposable(join(tmpdir(), 'adflow-count-'))
  const path = join(folder.path, 'chunk.ndjson')
  await writeFile(path, text)
  const bytes = Buffer.byteLength(text)
  return {
    request: { file: path, origin: '/data/source.ndjson', bytes, maxRecordBytes: 1 << 20, integers: [] },
    [Symbol.asyncDispose]: () => folder.remove(),
  }
}
