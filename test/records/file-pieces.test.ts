import { randomBytes } from 'node:crypto'
import { mkdtempDisposable, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate as later } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { filePieces } from '../../src/records/file-pieces.ts'

it('sends a file over a socket that takes it slowly, out of three buffers that take turns', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'adflow-pieces-'))
  const file = join(folder.path, 'body')
  const bytes = randomBytes(8_000_001)
  await writeFile(file, bytes)
  const come: Buffer[] = []
  const server = createServer(async (body, answer) => {
    for await (const piece of body) {
      come.push(piece as Buffer)
      await later()
    }
    answer.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const sent = request({ port: (server.address() as AddressInfo).port, method: 'POST', agent: false })
    const answered = new Promise((resolve, reject) => sent.on('response', resolve).on('error', reject))
    const pieces = filePieces(file, { bytes: 1 << 17, buffers: 3 })
    await pipeline(Readable.from(pieces, { objectMode: false, highWaterMark: 1 }), sent)
    await answered
    expect(Buffer.concat(come).equals(bytes)).toBe(true)
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

it('ends with the last piece, be it short or full, and tells of a file that is not there', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'adflow-pieces-'))
  const file = join(folder.path, 'body')
  for (const length of [0, 9, 20]) {
    await writeFile(file, 'x'.repeat(length))
    const lengths: number[] = []
    for await (const piece of filePieces(file, { bytes: 10, buffers: 2 })) lengths.push(piece.length)
    expect(lengths).toEqual([10, 10, 10].map((size, at) => Math.min(size, length - at * 10)).filter((size) => size > 0))
  }
  await expect(filePieces(join(folder.path, 'gone'), { bytes: 10, buffers: 2 }).next()).rejects.toThrow('ENOENT')
})
