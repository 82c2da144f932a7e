/** Lets an HTTP server of ours listen, and says where it does. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { AdflowError } from './errors.ts'

/** Resolves to its URL. The server does not keep the process alive. @throws AdflowError DAEMON_ADDRESS */
export async function listenAt(server: Server, host: string, port: number): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new AdflowError('DAEMON_ADDRESS', `cannot listen at ${host}:${port}: ${error.message}`, {
          cause: error,
          hint: 'give another address with --listen; port 0 takes a free one, which `adflow daemon status` finds',
        }),
      )
    })
    server.listen(port, host, () => resolve())
  })
  server.unref()
  const { address, port: taken, family } = server.address() as AddressInfo
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${taken}`
}
