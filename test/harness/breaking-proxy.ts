/** Stands between a source and its real server, passes answers on as they come, and breaks some off, or answers itself. See also http-proxy.ts. */
import { request as ask, createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'

export interface Passing {
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly body: string
}

export class BreakingProxy implements AsyncDisposable {
  /** true: it has answered. A number: the answer of the server breaks off after so many bytes. */
  interfere: (passing: Passing, response: ServerResponse) => boolean | number = () => false
  /** Headers of answers that are not passed on. */
  withheld: readonly string[] = []
  readonly #target: URL
  readonly #server: Server

  private constructor(target: string) {
    this.#target = new URL(target)
    this.#server = createServer(async (incoming, response) => {
      const body = (await buffer(incoming)).toString()
      const passing = { method: incoming.method ?? '', path: incoming.url ?? '', body }
      const said = this.interfere(passing, response)
      if (said !== true) this.#pass(passing, incoming.headers, response, said === false ? undefined : said)
    })
  }

  static async before(target: string): Promise<BreakingProxy> {
    const proxy = new BreakingProxy(target)
    await new Promise<void>((done) => proxy.#server.listen(0, '127.0.0.1', done))
    return proxy
  }

  /** The address of the target with the port of the proxy. */
  get url(): string {
    const url = new URL(this.#target)
    url.port = String((this.#server.address() as AddressInfo).port)
    return url.href
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((done) => this.#server.close(done))
  }

  #pass(
    { method, path, body }: Passing,
    headers: IncomingHttpHeaders,
    response: ServerResponse,
    most: number | undefined,
  ): void {
    const { hostname, port } = this.#target
    const outgoing = ask({ hostname, port, method, path, headers }, (answer) => {
      for (const name of this.withheld) delete answer.headers[name]
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      let passed = 0
      answer.on('data', (part: Buffer) => {
        if (most !== undefined && passed + part.length > most) {
          response.write(part.subarray(0, most - passed), () => response.destroy())
          answer.destroy()
        } else response.write(part)
        passed += part.length
      })
      answer.on('end', () => response.end())
      answer.on('error', () => response.destroy())
    })
    outgoing.on('error', () => response.destroy())
    outgoing.end(body)
  }
}
