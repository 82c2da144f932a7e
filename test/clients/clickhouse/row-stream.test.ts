import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { Doubtful, readRows } from '../../../src/clients/clickhouse/row-stream.ts'

const ROWS = '{"id":"1","name":"a"}\n{"id":"2","name":"Code: 1. DB::Exception: told"}\n'
const OPTIONS = { origin: 'ads.events', first: 'id', idleMs: 50, maxRowBytes: 1 << 20, keptBack: false }

async function read(pieces: readonly string[], headers = {}): Promise<string> {
  let taken = ''
  const body = Readable.from(pieces.map((piece) => Buffer.from(piece)))
  const options = { ...OPTIONS, signal: new AbortController().signal }
  await readRows({ body, headers }, options, async (bytes, from, to) => {
    taken += bytes.toString('utf8', from, to)
  })
  return taken
}

const TAG = { 'x-clickhouse-exception-tag': 'abcdefghijklmnop' }

describe('rows of an answer', () => {
  it('come in runs of whole lines, whatever the pieces', async () => {
    expect(await read([...ROWS], TAG)).toBe(ROWS)
  })

  it.each([
    [
      'an error as newer servers write it',
      '\r\n__exception__\r\nabc\r\nCode: 395. DB::Exception: it broke. (X)\r\n',
      /it broke/,
    ],
    ['an error as older servers write it', 'Code: 241. DB::Exception: Memory limit exceeded (X)\n', /Memory limit/],
    ['an error behind half a row', '{"id":"3","na\r\nCode: 395. DB::Exception: it broke\n', /it broke/],
    ['an error as a row', '{"exception": "Code: 395. DB::Exception: it broke"}\n', /it broke/],
    ['half a row', '{"id":"3","na', /middle of a row/],
    ['a row of something else', '{"other":"3"}\n', /middle of a row/],
    ['a page of a proxy', '<html><body>502</body></html>\n', /HTML/],
  ])('are not taken for whole with %s', async (_, end, message) => {
    await expect(read([ROWS, end], TAG)).rejects.toThrow(message)
    await expect(read([ROWS + end], TAG)).rejects.toThrow(message)
  })

  it('are in doubt where an older server may have written an error into the last one', async () => {
    await expect(read([ROWS])).rejects.toBeInstanceOf(Doubtful)
    expect(await read([ROWS.replace('Code: 1. DB', 'DB')])).toContain('told')
  })

  it('end where nothing comes any more', async () => {
    const body = new Readable({ read: () => undefined })
    body.push(ROWS)
    const options = { ...OPTIONS, signal: new AbortController().signal }
    await expect(readRows({ body, headers: TAG }, options, async () => undefined)).rejects.toMatchObject({
      code: 'SOURCE_UNREADABLE',
      message: expect.stringMatching(/silent for 0.05 s/),
    })
  })
})
