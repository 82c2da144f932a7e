/** Faults of the network between a client and a server, by toxiproxy. */
import { freshName } from './fresh.ts'
import type { ToxiproxyEndpoint } from './toxiproxy.ts'

/** `upstream` is the way to the server, `downstream` the way back. */
export type Direction = 'upstream' | 'downstream'

export type Toxic =
  /** Cuts with RST, `timeoutMs` after data came. */
  | { readonly type: 'reset_peer'; readonly timeoutMs: number }
  | { readonly type: 'latency'; readonly latencyMs: number; readonly jitterMs?: number }
  | { readonly type: 'bandwidth'; readonly kilobytesPerSecond: number }
  /** Closes after so many bytes. */
  | { readonly type: 'limit_data'; readonly bytes: number }
  /** Lets nothing through and closes after `timeoutMs`; 0: never closes. */
  | { readonly type: 'timeout'; readonly timeoutMs: number }

export class ProxyForServer implements AsyncDisposable {
  /** The server's address, by way of the proxy. */
  readonly url: string
  readonly port: number
  readonly #api: string

  constructor(url: string, port: number, api: string) {
    this.url = url
    this.port = port
    this.#api = api
  }

  /** Returns how to take the toxic away again. */
  async add(toxic: Toxic, direction: Direction = 'downstream'): Promise<() => Promise<void>> {
    const name = freshName('toxic')
    const body = { name, type: toxic.type, stream: direction, toxicity: 1, attributes: attributesOf(toxic) }
    await call(`${this.#api}/toxics`, 'POST', body)
    return () => call(`${this.#api}/toxics/${name}`, 'DELETE')
  }

  /** Cuts all connections and takes no new ones. */
  down(): Promise<void> {
    return call(this.#api, 'POST', { enabled: false })
  }

  up(): Promise<void> {
    return call(this.#api, 'POST', { enabled: true })
  }

  remove(): Promise<void> {
    return call(this.#api, 'DELETE')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.remove()
  }
}

/** A proxy of the test's own to the server at a URL (or `host:port`). `port`: where it listens; default: any free one. */
export async function proxyFor(
  toxiproxy: ToxiproxyEndpoint,
  server: string,
  { port = 0 } = {},
): Promise<ProxyForServer> {
  const withScheme = server.includes('://')
  const url = new URL(withScheme ? server : `tcp://${server}`)
  const name = freshName('proxy')
  const host = new URL(toxiproxy.url).hostname
  const answer = await send(`${toxiproxy.url}/proxies`, 'POST', {
    name,
    listen: `${host}:${port}`,
    upstream: url.host,
    enabled: true,
  })
  const { listen } = (await answer.json()) as { listen: string }
  url.host = listen
  const address = withScheme ? url.href : url.host
  return new ProxyForServer(address, Number(url.port), `${toxiproxy.url}/proxies/${name}`)
}

function attributesOf(toxic: Toxic): Readonly<Record<string, number>> {
  switch (toxic.type) {
    case 'reset_peer':
    case 'timeout':
      return { timeout: toxic.timeoutMs }
    case 'latency':
      return { latency: toxic.latencyMs, jitter: toxic.jitterMs ?? 0 }
    case 'bandwidth':
      return { rate: toxic.kilobytesPerSecond }
    case 'limit_data':
      return { bytes: toxic.bytes }
  }
}

async function call(url: string, method: string, body?: unknown): Promise<void> {
  await (await send(url, method, body)).arrayBuffer()
}

async function send(url: string, method: string, body?: unknown): Promise<Response> {
  const response = await fetch(url, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
  if (!response.ok) throw new Error(`toxiproxy: ${method} ${url} gave ${response.status}: ${await response.text()}`)
  return response
}
