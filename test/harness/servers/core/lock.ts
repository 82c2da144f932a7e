/**
 * One process at a time, for installations. An abstract unix socket is the lock: the kernel releases it with the process,
 * however that dies, so there are no stale locks.
 */
import { hash } from 'node:crypto'
import { createServer, type Server } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

const AGAIN_MS = 200

/** `name` is what is worked on, such as a path. */
export async function holding<T>(name: string, work: () => Promise<T>): Promise<T> {
  const lock = await acquire(`\0adflow-test-${hash('sha256', `${process.getuid?.()} ${name}`)}`)
  try {
    return await work()
  } finally {
    await new Promise((resolve) => lock.close(resolve))
  }
}

async function acquire(address: string): Promise<Server> {
  for (;;) {
    const server = createServer((socket) => socket.destroy())
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      server.once('error', resolve)
      server.listen(address, () => resolve(undefined))
    })
    if (error === undefined) return server
    if (error.code !== 'EADDRINUSE') throw error
    await wait(AGAIN_MS)
  }
}
