/** Free loopback ports. */
import { createServer } from 'node:net'

/** Below the range from which the kernel takes the ports of outgoing connections: one of those may not sit on ours. */
const FIRST = 12_000
const LAST = 31_999

/** A server that is about to start has not bound its port yet: none is given out twice by one process. */
const given = new Set<number>()

export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST + 1))
    if (given.has(port) || !(await canListen(port))) continue
    given.add(port)
    return port
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
