/** A real HTTP server that takes webhooks, badly where it is told to, and remembers what it has taken. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'

export const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo='

/** What it does with a request: a status (2xx: it has it), `hang`, `cut` (no answer), or a status with headers. */
export type Reaction = number | 'hang' | 'cut' | { readonly status: number; readonly headers: Record<string, string> }

export interface Taken {
  readonly id: string
  readonly body: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly reaction: Reaction
}

export class WebhookReceiver {
  /** Every request whose signature holds, in order. */
  readonly requests: Taken[] = []
  /** What is wrong with the others, and ids that came with two contents. */
  readonly faults: string[] = []
  react: (request: { readonly id: string; readonly body: string }) => Reaction = () => 200
  readonly #contents = new Map<string, string>()
  readonly #has = new Set<string>()
  readonly #verifier = new Webhook(SECRET)
  #server: Server | undefined
  #port = 0

  get url(): string {
    return `http://127.0.0.1:${this.#port}/hook`
  }

  /** Requests that it has answered with 2xx, each id once: at its first time. */
  get accepted(): Taken[] {
    const seen = new Set<string>()
    return this.requests.filter(({ id, reaction }) => {
      if (typeof reaction !== 'number' || reaction >= 300 || seen.has(id)) return false
      seen.add(id)
      return true
    })
  }

  /** On the port that it had before. */
  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#take(request, response))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, '127.0.0.1', () => resolve())
    })
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  /** From now on connections are refused. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    try {
      for await (const part of request) parts.push(part as Buffer)
    } catch {
      return // the sender was killed in the middle of its request
    }
    const body = Buffer.concat(parts).toString('utf8')
    const id = String(request.headers['webhook-id'])
    try {
      this.#verifier.verify(body, request.headers as Record<string, string>)
    } catch (error) {
      this.faults.push(`${id}: ${(error as Error).message}`)
    }
    const before = this.#contents.get(id) ?? body
    if (before !== body) this.faults.push(`${id} came with two contents`)
    this.#contents.set(id, before)
    // As a receiver should: what it has it takes again, whatever it would say now.
    const reaction = this.#has.has(id) ? 200 : this.react({ id, body })
    if (typeof reaction === 'number' && reaction < 300) this.#has.add(id)
    this.requests.push({ id, body, headers: request.headers, at: Date.now(), reaction })
    if (reaction === 'hang') return
    if (reaction === 'cut') {
      response.destroy()
      return
    }
    const { status, headers } = typeof reaction === 'number' ? { status: reaction, headers: {} } : reaction
    response.writeHead(status, headers).end(status < 300 ? 'thank you' : 'no')
  }
}
