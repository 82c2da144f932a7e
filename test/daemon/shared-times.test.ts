import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import pino from 'pino'
import { expect, it, onTestFinished } from 'vitest'
import { parseStatePlace } from '../../src/core/state-place.ts'
import { SYSTEM_CLOCK } from '../../src/daemon/clock.ts'
import { SharedTimes } from '../../src/daemon/shared-times.ts'
import { temporaryFolder } from '../harness/cli.ts'

it('tells what is known, and who is silent, while a server that takes connections and says nothing is still asked', async () => {
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => undefined))
    socket.resume()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const folder = temporaryFolder('times')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    folder.remove()
  })
  const place = parseStatePlace(`postgres://ops@127.0.0.1:${(server.address() as AddressInfo).port}/ops`)
  const at = { place, baseDir: folder.path }
  const never = new AbortController().signal
  const times = new SharedTimes({
    ...{ program: 'adflow', home: undefined as never, clock: SYSTEM_CLOCK, command: 'test', parallel: 1 },
    ...{ log: pino({ level: 'silent' }), beside: () => 0, own: undefined, failed: () => undefined },
    domains: () => ({ local: new Map(), shared: new Map([[place.key, { at, jobs: new Map() }]]) }),
    folderOf: () => join(folder.path, 'shared'),
  })
  // Told to stop already: it leads nowhere, and is asked all the same.
  times.follow({ url: '', drain: AbortSignal.abort(), gone: never, step: () => undefined })
  expect(times.all).toMatchObject([{ answers: true }])
  const books = await times.books()
  expect(books.map(({ jobs }) => jobs.size)).toEqual([0])
  expect(times.all).toMatchObject([{ answers: false }])
  expect(sockets.map(({ readableEnded }) => readableEnded)).toEqual([false])
})
