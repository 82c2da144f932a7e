import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copyWithout } from '../../src/records/copy-without.ts'
import { lines } from '../../src/records/lines.ts'
import { RecordIndex } from '../../src/records/record-index.ts'
import { PIECE_BYTES } from '../../src/records/window.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-copy-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function without(text: string, ordinals: readonly number[]): Promise<{ left: string; raws: string[] }> {
  const [file, target] = [join(folder, 'from.txt'), join(folder, 'to.txt')]
  await writeFile(file, text)
  const index = await RecordIndex.build(file, lines, 4)
  const raws = await index.bytes(ordinals)
  await copyWithout(
    file,
    ordinals.map((ordinal) => index.span(ordinal)),
    target,
  )
  return { left: await readFile(target, 'utf8'), raws: raws.map(String) }
}

describe('a chunk without some of its records', () => {
  it('keeps every other byte, and each record is found by its ordinal', async () => {
    const record = fc.tuple(fc.constantFrom('{"a":1}', '[]', 'x'), fc.constantFrom('\n', '\r\n'), fc.boolean())
    await fc.assert(
      fc.asyncProperty(fc.array(record, { maxLength: 30 }), async (records) => {
        const text = records.map(([body, end]) => body + end).join('')
        const out = records.flatMap(([, , left], ordinal) => (left ? [ordinal] : []))
        const { left, raws } = await without(text, out)
        expect(left).toBe(records.flatMap(([body, end, gone]) => (gone ? [] : [body + end])).join(''))
        expect(raws).toEqual(out.map((ordinal) => records[ordinal]?.[0]))
      }),
    )
  })

  // The piece ends inside the record, inside its CRLF, and just after it.
  it.each([-3, -2, -1, 0, 1])('takes a record out that ends %i bytes from the end of a piece', async (off) => {
    const first = 'a'.repeat(PIECE_BYTES - 20)
    const second = 'b'.repeat(17 + off)
    const { left, raws } = await without(`${first}\n${second}\r\nlast\r\n`, [1])
    expect(left).toBe(`${first}\nlast\r\n`)
    expect(raws).toEqual([second])
  })

  it('takes out a record that is longer than several pieces, and the last one without a line end', async () => {
    const long = 'x'.repeat(3 * PIECE_BYTES + 5)
    const { left, raws } = await without(`1\n${long}\n2\n3`, [1, 3])
    expect(left).toBe('1\n2\n')
    expect(raws).toEqual([long, '3'])
  })

  it('reads records that lie further apart than a piece', async () => {
    const far = 'y'.repeat(PIECE_BYTES)
    expect((await without(`1\n${far}\n2\n${far}\n3\n`, [0, 2, 4])).raws).toEqual(['1', '2', '3'])
  })
})
