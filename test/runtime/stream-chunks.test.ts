import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { linesOf, streamChunks } from '../../src/runtime/stream-chunks.ts'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-stream-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const options = { name: 'stdin', chunkBytes: 100, maxRecordBytes: 60 }

interface Seen {
  readonly range: string
  readonly text: string
  readonly records: number
  readonly refused: readonly string[]
}

async function cut(pieces: readonly Buffer[], more: Partial<typeof options> = {}): Promise<Seen[]> {
  const seen: Seen[] = []
  for await (const chunk of streamChunks(Readable.from(pieces), { ...options, folder, ...more })) {
    const { range, records, refused, file } = chunk
    seen.push({
      range: `${range.lane} ${range.from}–${range.to}`,
      text: readFileSync(file, 'utf8'),
      records,
      refused: refused.map(({ line, reason }) => `${line} ${reason}`),
    })
    await chunk.release()
  }
  expect(readdirSync(folder)).toEqual([])
  return seen
}

const record = (n: number) => `{"n":${n},"text":"${'x'.repeat(n % 17)}"}\n`
const RECORDS = Buffer.from(Array.from({ length: 40 }, (_, n) => record(n)).join(''))

describe('streamChunks', () => {
  it.each([1, 7, 64, 5000])('cuts where the bytes say, whatever the pieces: %i bytes each', async (size) => {
    const pieces: Buffer[] = []
    for (let at = 0; at < RECORDS.length; at += size) pieces.push(RECORDS.subarray(at, at + size))
    const seen = await cut(pieces)
    expect(seen).toEqual(await cut([RECORDS]))
    expect(seen.map(({ text }) => text).join('')).toBe(RECORDS.toString())
    expect(seen.every(({ text }) => text.length <= 100 && text.endsWith('\n'))).toBe(true)
    expect(seen.reduce((total, { records }) => total + records, 0)).toBe(40)
  })

  it('takes the last record without a line end, and nothing for a record where there is none', async () => {
    expect(await cut([Buffer.from('{"a":1}\n\n{"b":2}')])).toMatchObject([{ records: 2, range: 'stdin 0–16' }])
    expect(await cut([])).toEqual([])
    expect(await cut([Buffer.from('')])).toEqual([])
  })

  it('passes a byte order mark', async () => {
    expect(await cut([Buffer.from('\uFEFF{"a":1}\n')])).toMatchObject([{ text: '{"a":1}\n', range: 'stdin 3–11' }])
  })

  it('refuses a record that is too large, and goes on after it', async () => {
    const seen = await cut([Buffer.from(`{"a":1}\n${'y'.repeat(500)}\n{"b":2}\n`)])
    expect(seen.flatMap(({ refused }) => refused)).toEqual(['2 RECORD_TOO_LARGE'])
    expect(seen.map(({ text }) => text).join('')).toBe('{"a":1}\n{"b":2}\n')
  })

  it('finds records and their places again', async () => {
    for await (const chunk of streamChunks(Readable.from([Buffer.from('a\n\nbb\r\nccc')]), { ...options, folder })) {
      expect((await chunk.raw([0, 2])).map(String)).toEqual(['a', 'ccc'])
      expect(await chunk.locate([1])).toEqual([{ byteFrom: 3, byteTo: 5, line: 3 }])
      expect((await linesOf(chunk.file, [1])).map(String)).toEqual(['bb'])
      await chunk.release()
    }
  })

  it('fails where the stream fails, so that half an input is not taken for all of it', async () => {
    const broken = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.from('{"a":1}\n')
      throw new Error('the other side went away')
    }
    const read = async () => {
      for await (const chunk of streamChunks(broken(), { ...options, folder })) await chunk.release()
    }
    await expect(read()).rejects.toMatchObject({ code: 'LOCAL_IO', message: expect.stringContaining('went away') })
  })
})
