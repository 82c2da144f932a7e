/**
 * The servers that all test files of a run share. They live in the main process of vitest; the workers ask it over loopback
 * HTTP. A server is started when somebody asks for the first time, once.
 */
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { CATALOG, isServerName, type ServerName } from '../catalog.ts'
import { fromEnvironment, type ServerInstance, startInstance } from './instance.ts'
import type { Endpoint, ServerKind } from './kind.ts'

/** A server, or why there is none. */
export type Answer = { readonly endpoint: Endpoint } | { readonly reason: string }

export class SharedServers {
  readonly #asked = new Map<ServerName, Promise<Endpoint>>()
  readonly #running: ServerInstance<Endpoint>[] = []
  #ended = false

  async get(name: ServerName): Promise<Endpoint> {
    if (this.#ended) throw new Error('the servers have been stopped')
    let endpoint = this.#asked.get(name)
    if (endpoint === undefined) {
      endpoint = this.#start(name)
      endpoint.catch(() => undefined) // told to everybody who asks
      this.#asked.set(name, endpoint)
    }
    return endpoint
  }

  /**
   * Ends all that run. What is still being installed or started is not waited for, as that may take minutes: it ends with
   * this process. @throws AggregateError when a server does not end.
   */
  async end(): Promise<void> {
    this.#ended = true
    const outcomes = await Promise.allSettled(this.#running.splice(0).map((server) => server.end()))
    const failed = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
    if (failed.length > 0) throw new AggregateError(failed, 'servers of the tests did not end')
  }

  async #start(name: ServerName): Promise<Endpoint> {
    const kind = CATALOG[name] as unknown as ServerKind<Endpoint, Record<string, never>>
    const given = fromEnvironment(kind)
    if (given !== undefined) return given
    const server = await startInstance(kind, {})
    if (this.#ended) await server.end()
    else this.#running.push(server)
    return server.endpoint
  }
}

/** Answers the workers until it is closed. */
export async function serveWorkers(servers: SharedServers): Promise<{ readonly url: string; close(): void }> {
  const http = createServer((asked, response) => {
    const name = asked.url?.slice(1) ?? ''
    const answer: Promise<Answer> = isServerName(name)
      ? servers.get(name).then(
          (endpoint) => ({ endpoint }),
          (error: unknown) => ({ reason: error instanceof Error ? error.message : String(error) }),
        )
      : Promise.resolve({ reason: `no server is called ${name}` })
    void answer.then((told) => response.end(JSON.stringify(told)))
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  http.unref()
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    close: () => {
      http.close()
      http.closeAllConnections()
    },
  }
}

/** From a worker. Waits for as long as installing takes: fetch would give up after five minutes. */
export function askMain(url: string, name: ServerName): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asking = request(`${url}/${name}`, (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('end', () => resolve(JSON.parse(Buffer.concat(parts).toString()) as Answer))
      response.on('error', reject)
    })
    asking.on('error', reject)
    asking.end()
  })
}
