import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { expect, it } from 'vitest'
import { keptReads } from '../../../src/clients/http/kept-reads.ts'

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
