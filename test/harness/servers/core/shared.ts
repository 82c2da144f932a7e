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
  readonly #started = new Map<ServerName, Promise<ServerInstance<Endpoint> | Endpoint>>()
  #ended = false

  async get(name: ServerName): Promise<Endpoint> {
    if (this.#ended) throw new Error('the servers have been stopped')
    let server = this.#started.get(name)
    if (server === undefined) {
      const kind = CATALOG[name] as unknown as ServerKind<Endpoint, Record<string, never>>
      const given = fromEnvironment(kind)
      server = given === undefined ? startInstance(kind, {}) : Promise.resolve(given)
      server.catch(() => undefined) // told to everybody who asks
      this.#started.set(name, server)
    }
    return endpointOf(await server)
  }

  /** Ends all, also those that are still starting. @throws AggregateError when one does not end. */
  async end(): Promise<void> {
    this.#ended = true
    const outcomes = await Promise.allSettled(
      [...this.#started.values()].map(async (starting) => {
        const server = await starting.catch(() => undefined)
        if (server !== undefined && isInstance(server)) await server.end()
      }),
    )
    const failed = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
    if (failed.length > 0) throw new AggregateError(failed, 'servers of the tests did not end')
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

function endpointOf(server: ServerInstance<Endpoint> | Endpoint): Endpoint {
  return isInstance(server) ? server.endpoint : server
}

function isInstance(server: ServerInstance<Endpoint> | Endpoint): server is ServerInstance<Endpoint> {
  return typeof server['end'] === 'function'
}
