import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { HttpClient } from '../../../src/clients/http/client.ts'
import { keptReads, ReadBuffers } from '../../../src/clients/http/kept-reads.ts'
import { plainBody } from '../../../src/clients/http/response-body.ts'

const BYTES = 6 << 20

it('gives every byte once, also to a reader who leaves pieces lying', async () => {
  const sent = randomBytes(BYTES)
  const server = createServer((socket) => socket.end(sent)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1', onread: keptReads() })
  const read: Buffer[] = []
  const take = () => {
    for (let piece = socket.read(); piece !== null; piece = socket.read()) read.push(Buffer.from(piece as Buffer))
  }
  let turn = 0
  socket.on('readable', () => {
    turn += 1
    if (turn % 3 === 0)
      setTimeout(take, 5) // what is there stays, while more comes
    else take()
  })
  await once(socket, 'end')
  server.close()
  expect(Buffer.concat(read).equals(sent)).toBe(true)
})

it('gives bodies byte for byte out of buffers that are read into again, however they are cut and however slowly they are taken', async () => {
  const sent = randomBytes(BYTES / 2)
  const server = createHttpServer(async ({ url }, reply) => {
    if (url === '/whole') return reply.writeHead(200, { 'content-length': sent.length }).end(sent)
    if (url === '/gzip') return reply.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(sent, { level: 1 }))
    for (let at = 0, size = 1; at < sent.length; at += size, size = (size * 7 + 1) % 100_000)
      if (!reply.write(sent.subarray(at, at + size))) await once(reply, 'drain')
    return reply.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const limits = { connectMs: 5000, headersMs: 5000, bodyMs: 5000, totalMs: 60_000, maxResponseBytes: 0 }
  const client = new HttpClient({ ...limits, allowPrivate: true })
  const get = async (path: string, pauses: boolean) => {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/${path}`
    const response = await client.open({ method: 'GET', url, headers: {} })
    const body = await plainBody(response, response.headers['content-encoding'], url, { maxRatio: 10, maxBytes: BYTES })
    const read = Buffer.alloc(sent.length + 1)
    let length = 0
    for (let turn = 0, count = -1; count !== 0; turn += 1, length += count) {
      count = await body.read(read, length, Math.min(50_000, read.length - length))
      if (pauses && turn % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    }
    return read.subarray(0, length).equals(sent)
  }
  try {
    const paths = ['whole', 'chunked', 'gzip', 'whole']
    for (const pauses of [false, true])
      expect(await Promise.all(paths.map((path) => get(path, pauses)))).toEqual(paths.map(() => true))
  } finally {
    await client.close()
    server.closeAllConnections()
    server.close()
  }
})

it('reads again into a buffer that was given back whole, and into no other', () => {
  const buffers = new ReadBuffers()
  const { buffer, callback } = buffers.onread() as unknown as { buffer(): Buffer; callback(bytes: number): boolean }
  const pieces: Buffer[] = []
  const read = (bytes: number) => {
    callback.call({ push: (piece: Buffer) => pieces.push(piece) > 0 } as never, bytes)
    return pieces.at(-1) as Buffer
  }
  const memory = buffer().buffer
  const piece = read(100)
  buffer()
  buffers.give(piece.subarray(0, 60))
  buffers.give(piece.subarray(60))
  expect(buffer().buffer).not.toBe(memory)
  buffers.give(piece)
  buffers.give(piece)
  expect(buffer().buffer).toBe(memory)
  expect(buffer().buffer).not.toBe(memory)
})
