import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { cutPiece, type PieceRequest } from '../../src/records/cut-piece.ts'
import { objectLines } from '../../src/records/lines.ts'
import { cutAll } from './cutting.ts'

let folder: string
let into: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-piece-'))
  into = join(folder, 'piece')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** The piece with what is in its file; undefined, and then there is no file. */
async function cut(text: string | Buffer, how: Partial<PieceRequest> = {}, change?: (descriptor: number) => void) {
  const file = join(folder, 'source')
  writeFileSync(file, text)
  const descriptor = openSync(file, 'r+')
  const request = { from: 0, target: 1 << 20, bytes: Buffer.byteLength(text), settled: true, maxRecordBytes: 1 << 20 }
  change?.(descriptor)
  try {
    const piece = await cutPiece({ ...request, descriptor, origin: 'source', integers: ['a'], into, ...how })
    expect(existsSync(into)).toBe(piece !== undefined)
    return piece === undefined ? undefined : { ...piece, content: readFileSync(into) }
  } finally {
    closeSync(descriptor)
    rmSync(into, { force: true })
  }
}

it('is cut as the extractor cuts it, wherever it begins', async () => {
  const line = fc.record({ a: fc.integer(), b: fc.string({ unit: 'binary', maxLength: 40 }) })
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 1, max: 900 }),
      async (lines, chunkBytes) => {
        const text = Buffer.from(`${lines.map((record) => JSON.stringify(record)).join('\n')}\n`)
        for (const { from, to, bytes, digest, records } of await cutAll(
          text,
          objectLines(() => ''),
          { chunkBytes },
        ))
          expect(await cut(text, { from, target: from + chunkBytes })).toMatchObject({
            ...{ to, digest, records, content: bytes, bytes: bytes.length, integers: ['a'] },
          })
      },
    ),
    { numRuns: 60 },
  )
})

it('goes over many windows, and knows its integers', async () => {
  const text = '{"a":1,"b":"é"}\n'.repeat(400_000)
  const target = 5_000_000
  const piece = await cut(text, { target })
  expect(piece?.to).toBe(piece?.content.length)
  expect(target - (piece?.to ?? 0)).toBeLessThan(20)
  expect(piece?.content.equals(Buffer.from(text).subarray(0, piece.to))).toBe(true)
  expect(await cut(text.replace(/1,"b":"é"}\n$/, '1.5}\n'), { target: 1e7 })).toMatchObject({
    records: 400_000,
    integers: undefined,
  })
})

it.each<readonly [string, string, Partial<PieceRequest>]>([
  ['a line that is no object', '{"a":1}\nnot JSON\n{"a":2}\n', {}],
  ['a record that is longer than it may be', `{"a":1}\n{"a":"${'x'.repeat(100)}"}\n`, { maxRecordBytes: 50 }],
  ['nothing', '', {}],
  ['half of a record that somebody may be writing', '{"a":', { settled: false }],
])('is left to the extractor where there is %s', async (_, text, how) => {
  expect(await cut(text, how)).toBeUndefined()
})

it('takes the last record without a line end as the extractor does', async () => {
  expect(await cut('{"a":1}\n{"a":2}')).toMatchObject({ to: 15, records: 2, lines: 1 })
  expect(await cut('{"a":1}\n{"a":2}', { settled: false })).toMatchObject({ to: 15, records: 2 })
  expect(await cut('{"a":1}\n{"a":2', { settled: false })).toMatchObject({ to: 8, records: 1 })
})

it('is left to the extractor where the file ends early, and stops where the file ended when it was opened', async () => {
  const text = '{"a":1}\n'.repeat(100)
  expect(await cut(text, {}, (descriptor) => ftruncateSync(descriptor, 400))).toBeUndefined()
  expect(await cut(text, { bytes: 400 })).toMatchObject({ to: 400, records: 50 })
})

it('says when it cannot be written', async () => {
  await expect(cut('{"a":1}\n', { into: join(folder, 'nowhere', 'piece') })).rejects.toMatchObject({ code: 'LOCAL_IO' })
})
