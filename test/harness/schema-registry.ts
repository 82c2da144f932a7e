/** A schema registry that speaks the API of Confluent over real HTTP, as far as a reader needs it, and badly where it is told to. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Registered {
  readonly schema: string
  readonly schemaType?: string
  readonly references?: readonly { readonly name: string; readonly subject: string; readonly version: number }[]
}

export class SchemaRegistryServer {
  readonly asked: string[] = []
  readonly authorized: (string | undefined)[] = []
  /** Asked first; true: the request was answered. */
  interfere: (request: IncomingMessage, response: ServerResponse) => boolean | undefined = () => undefined
  readonly #ids: Registered[] = []
  readonly #subjects = new Map<string, Registered[]>()
  #server: Server | undefined
  #port = 0

  get url(): string {
    return `http://127.0.0.1:${this.#port}/registry`
  }

  /** The id of a schema, from 1 on. */
  register(subject: string, registered: Registered): number {
    this.#ids.push(registered)
    this.#subjects.set(subject, [...(this.#subjects.get(subject) ?? []), registered])
    return this.#ids.length
  }

  /** On the port that it had before. */
  async start(): Promise<this> {
    const server = createServer((request, response) => this.#answer(request, response))
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve))
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
    return this
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections()
    await new Promise((resolve) => this.#server?.close(resolve))
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname } = new URL(request.url ?? '/', this.url)
    this.asked.push(pathname)
    this.authorized.push(request.headers.authorization)
    if (this.interfere(request, response) === true) return
    const say = (status: number, body: unknown) =>
      response.writeHead(status, { 'content-type': 'application/vnd.schemaregistry.v1+json' }).end(JSON.stringify(body))
    if (pathname === '/registry/schemas/types') return void say(200, ['JSON', 'PROTOBUF', 'AVRO'])
    const [, id] = /^\/registry\/schemas\/ids\/(\d+)$/.exec(pathname) ?? []
    const [, subject = '', version] = /^\/registry\/subjects\/([^/]+)\/versions\/(\d+)$/.exec(pathname) ?? []
    const found =
      id === undefined
        ? this.#subjects.get(decodeURIComponent(subject))?.[Number(version) - 1]
        : this.#ids[Number(id) - 1]
    if (found !== undefined) return void say(200, found)
    say(404, { error_code: id === undefined ? 40401 : 40403, message: 'not found' })
  }
}
