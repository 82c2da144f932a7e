import { hash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Chunk, ReadContext } from '../../../src/core/contracts.ts'
import files from '../../../src/extractors/files.ts'

/** So large that a thread cuts it. */
const CHUNK_BYTES = 33_000_000
const LINE = `${JSON.stringify({ id: 1234567890, name: 'é'.repeat(60), cost: 17 })}\n`
const LINES = Math.ceil((2.2 * CHUNK_BYTES) / Buffer.byteLength(LINE))

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-beside-'))
  mkdirSync(join(folder, 'chunks'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

interface Given extends Pick<Chunk, 'range' | 'mark' | 'records' | 'bytes' | 'digest' | 'refused' | 'integers'> {
  /** Of the file. */
  readonly sum: string
  readonly last: unknown
}

async function read(context: Partial<ReadContext> = {}): Promise<Given[]> {
  const chunkDir = join(folder, 'chunks')
  const env = { id: 'a', job: 'j', baseDir: folder, log: pino({ level: 'silent' }), chunkDir, stageDir: chunkDir }
  const extractor = files.create(files.options.parse({ path: 'data.ndjson', settle: '0s' }), env)
  const limits = { chunkBytes: CHUNK_BYTES, maxRecordBytes: 1000, parallel: 1, integers: ['id', 'cost'] }
  const { signal } = new AbortController()
  const given: Given[] = []
  for await (const chunk of extractor.read({ from: {}, planned: [], until: 'now', signal, ...limits, ...context })) {
    if ('gap' in chunk) throw new Error(chunk.message)
    const { range, mark, records, bytes, digest, refused, integers } = chunk
    const sum = hash('sha256', readFileSync(chunk.file))
    given.push({
      range,
      mark: mark ?? '',
      records,
      bytes,
      digest,
      refused,
      integers,
      sum,
      last: await chunk.locate([records - 1]),
    })
    await chunk.release()
  }
  await extractor.close()
  expect(readdirSync(chunkDir)).toEqual([])
  return given
}

it('gives the same chunks as the extractor itself', async () => {
  writeFileSync(join(folder, 'data.ndjson'), LINE.repeat(LINES))
  const chunks = await read()
  expect(chunks).toHaveLength(3)
  expect(chunks.map(({ integers }) => integers)).toEqual(chunks.map(() => ['id', 'cost']))
  // Whoever wants lines that are no objects too is not given what a thread cuts.
  expect(await read({ keepLines: true })).toEqual(chunks)
  const [first, second] = chunks
  const from = { [first?.range.lane ?? '']: { at: first?.range.to ?? '', mark: first?.mark ?? '' } }
  expect((await read({ from }))[0]).toEqual(second)
})

it('counts what is read in place, too', async () => {
  writeFileSync(join(folder, 'data.ndjson'), LINE.repeat(LINES))
  const limits = { chunkBytes: 2 * CHUNK_BYTES }
  const [chunk, ...others] = await read(limits)
  expect(others).toEqual([])
  expect(chunk).toMatchObject({ records: LINES, integers: ['id', 'cost'] })
  expect(await read({ ...limits, keepLines: true })).toEqual([chunk])
  writeFileSync(join(folder, 'data.ndjson'), `${LINE.repeat(LINES)}not JSON\n`)
  expect((await read(limits)).flatMap(({ refused }) => refused)).toMatchObject([{ line: LINES + 1 }])
})

it('leaves a record that must not reach the engine to the extractor, which tells of it once', async () => {
  const half = Math.floor(LINES / 2)
  writeFileSync(join(folder, 'data.ndjson'), `${LINE.repeat(half)}not JSON\n${LINE.repeat(LINES - half)}`)
  const chunks = await read()
  expect(chunks.flatMap(({ refused }) => refused)).toMatchObject([{ reason: 'RECORD_MALFORMED', line: half + 1 }])
  expect(chunks.reduce((sum, { records }) => sum + records, 0)).toBe(LINES)
  expect(chunks.at(-1)?.range.to).toBe(String(Buffer.byteLength(LINE) * LINES + Buffer.byteLength('not JSON\n')))
  const [first, second, third] = chunks
  writeFileSync(join(folder, 'data.ndjson'), LINE.repeat(LINES))
  const clean = await read()
  expect([first?.sum, first?.range.to]).toEqual([clean[0]?.sum, clean[0]?.range.to])
  expect([second?.integers, third?.integers]).toEqual([
    ['id', 'cost'],
    ['id', 'cost'],
  ])
})

it('ends with the run, in the middle too', async () => {
  writeFileSync(join(folder, 'data.ndjson'), LINE.repeat(LINES))
  const stop = new AbortController()
  setTimeout(() => stop.abort(new Error('told to stop')), 20)
  expect(await read({ signal: stop.signal })).toEqual([])
})
