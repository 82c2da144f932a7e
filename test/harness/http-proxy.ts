/** A proxy before an HTTP server that asks for a password, answers in its place, or changes what it says. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { Certificate } from './servers/core/certificates.ts'

export interface ProxiedRequest {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
}

export interface ProxiedAnswer {
  readonly status: number
  readonly body: string
}

export interface HttpProxyOptions {
  /** Speaks TLS with it. */
  readonly certificate?: Certificate
  /** Answers in the place of the server, or passes the request on, as it is or changed. */
  answer?(request: ProxiedRequest, pass: (body?: Buffer) => Promise<ProxiedAnswer>): Promise<ProxiedAnswer>
}

export interface HttpProxy extends AsyncDisposable {
  readonly url: string
}

export async function httpProxy(target: string, options: HttpProxyOptions): Promise<HttpProxy> {
  const { answer = (_, pass) => pass(), certificate } = options
  const handle = async (incoming: IncomingMessage): Promise<ProxiedAnswer> => {
    const { method = 'GET', url: path = '/', headers } = incoming
    const body = await buffer(incoming)
    const pass = async (changed: Buffer = body): Promise<ProxiedAnswer> => {
      const type = headers['content-type']
      const response = await fetch(new URL(path, target), {
        method,
        ...(type === undefined ? {} : { headers: { 'content-type': type } }),
        ...(changed.length === 0 ? {} : { body: new Uint8Array(changed) }),
      })
      return { status: response.status, body: await response.text() }
    }
    return answer({ method, path, headers, body }, pass)
  }
  const tls =
    certificate === undefined
      ? undefined
      : { cert: readFileSync(certificate.certificateFile), key: readFileSync(certificate.keyFile) }
  const server = tls === undefined ? createServer() : createTlsServer(tls)
  server.on('request', (incoming, outgoing) => {
    handle(incoming).then(
      ({ status, body }) => outgoing.writeHead(status, { 'content-type': 'application/json' }).end(body),
      () => outgoing.destroy(),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
