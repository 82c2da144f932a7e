/** Stands between a client and an HTTP server, on a loopback port: remembers what was asked, and answers in its place if told to. */
import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Asked {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly headers: IncomingHttpHeaders
}

export interface Relay extends AsyncDisposable {
  readonly url: string
  readonly asked: readonly Asked[]
}

/** The answer to a request that the server never sees; `lose`: the server gets it, and its answer is lost with the connection. */
type Fault =
  | { readonly status: number; readonly body?: string; readonly headers?: Readonly<Record<string, string>> }
  | 'lose'
  | undefined

/** A request waits for its fault. */
type FaultOf = (asked: Asked) => Fault | Promise<Fault>

export async function relayTo(server: string, faultOf: FaultOf = () => undefined): Promise<Relay> {
  const asked: Asked[] = []
  const { hostname, port } = new URL(server)
  const relay = createServer(async (incoming, answer) => {
    const { headers, method = '', url: path = '' } = incoming
    const own = { method, path, headers }
    asked.push(own)
    const fault = await faultOf(own)
    if (typeof fault === 'object') {
      incoming.resume().on('end', () => answer.writeHead(fault.status, fault.headers).end(fault.body))
      return
    }
    const onward = request({ hostname, port, method, path, headers }, (came) => {
      if (fault === 'lose') {
        came.resume().on('end', () => incoming.socket.resetAndDestroy())
        return
      }
      answer.writeHead(came.statusCode ?? 502, came.headers)
      came.pipe(answer)
    })
    onward.on('error', () => answer.destroy())
    incoming.pipe(onward)
  })
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(relay.address() as AddressInfo).port}`,
    asked,
    [Symbol.asyncDispose]: async () => {
      relay.closeAllConnections()
      await new Promise((resolve) => relay.close(resolve))
    },
  }
}
