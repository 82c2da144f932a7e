/**
 * HTTP to hosts that a job file names: with a limit for everything, no redirect followed, and no private address reached
 * unless the job allows it. undici is imported on the first request.
 */
import type { Readable } from 'node:stream'
import type { Agent, buildConnector, Dispatcher } from 'undici'
import type { TlsMaterial } from '../../core/tls.ts'
import { guardedLookup, refusePrivateHost } from './address-guard.ts'
import { ReadBuffers } from './kept-reads.ts'

export interface HttpLimits {
  readonly connectMs: number
  /** From the request to the last header of the response. */
  readonly headersMs: number
  /** Between two pieces of the body. */
  readonly bodyMs: number
  /** All of it. */
  readonly totalMs: number
  /** Of the response's body; what comes after is not read. */
  readonly maxResponseBytes: number
  readonly allowPrivate: boolean
  readonly tls?: TlsMaterial | undefined
}

export interface HttpResponse {
  readonly status: number
  /** Names in lower case; repeated ones joined by a comma. */
  readonly headers: Readonly<Record<string, string>>
  /** The beginning of the body, up to `maxResponseBytes`; empty where it broke off. */
  readonly body: Buffer
}

export interface OpenResponse extends Omit<HttpResponse, 'body'> {
  readonly body: Readable
  /** Whoever has copied a piece of the body, and is done with it, may say so: it is read into again. */
  taken(piece: Buffer): void
}

export interface HttpRequest {
  readonly method: Dispatcher.HttpMethod
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  readonly signal?: AbortSignal
}

export class HttpClient {
  readonly #limits: HttpLimits
  readonly #buffers = new ReadBuffers()
  #agent: Agent | undefined
  /** Asked for once: it is looked up anew each time, else. */
  #undici: Promise<typeof import('undici')> | undefined

  constructor(limits: HttpLimits) {
    this.#limits = limits
  }

  /** Resolves for every status. Rejects where there is no response: refused, cut off, too slow, PrivateAddressError. */
  async request(wanted: HttpRequest): Promise<HttpResponse> {
    const { status, headers, body } = await this.open(wanted)
    return { status, headers, body: await this.#begin(body) }
  }

  /** The same with a body to be read as it comes, or to be destroyed. It rejects where it breaks off, is shorter than it should be, or too slow. */
  async open({ method, url, headers, body, signal }: HttpRequest): Promise<OpenResponse> {
    const { allowPrivate, totalMs, headersMs, bodyMs } = this.#limits
    const { hostname, protocol } = new URL(url)
    if (protocol !== 'https:' && protocol !== 'http:') throw new Error(`cannot speak ${protocol} to ${hostname}`)
    if (!allowPrivate) refusePrivateHost(hostname)
    this.#undici ??= import('undici')
    const { Agent, buildConnector, request } = await this.#undici
    this.#agent ??= new Agent({ connect: this.#connector(buildConnector) })
    const time = AbortSignal.timeout(totalMs)
    const response = await request(url, {
      method,
      headers: { ...headers },
      ...(body === undefined ? {} : { body }),
      dispatcher: this.#agent,
      headersTimeout: headersMs,
      bodyTimeout: bodyMs,
      signal: signal === undefined ? time : AbortSignal.any([signal, time]),
    }).catch((error: unknown) => {
      throw time.aborted ? new Error(`no answer within ${totalMs / 1000} s`, { cause: error }) : error
    })
    return {
      status: response.statusCode,
      headers: Object.fromEntries(
        Object.entries(response.headers).map(([name, value]) => [name, [value ?? ''].flat().join(', ')]),
      ),
      body: response.body,
      taken: (piece) => this.#buffers.give(piece),
    }
  }

  /** Ends its connections. */
  async close(): Promise<void> {
    await this.#agent?.destroy()
  }

  /** What TLS decrypts does not come by `onread`. */
  #connector(build: typeof buildConnector): buildConnector.connector {
    const { allowPrivate, connectMs, tls } = this.#limits
    const options = { ...tls, timeout: connectMs, ...(allowPrivate ? {} : { lookup: guardedLookup }) }
    const secured = build(options)
    return (place, done) =>
      place.protocol === 'https:'
        ? secured(place, done)
        : build({ ...options, onread: this.#buffers.onread() } as buildConnector.BuildOptions)(place, done)
  }

  /** The status has been said by now: a body that breaks off takes nothing back. */
  async #begin(body: Readable): Promise<Buffer> {
    const parts: Buffer[] = []
    let bytes = 0
    try {
      for await (const part of body) {
        parts.push(part as Buffer)
        bytes += (part as Buffer).length
        if (bytes >= this.#limits.maxResponseBytes) break
      }
    } catch {
      return Buffer.alloc(0)
    }
    return Buffer.concat(parts).subarray(0, this.#limits.maxResponseBytes)
  }
}

/** Milliseconds that a `Retry-After` header asks for: seconds, or a date. undefined where there is none that can be read. */
export function retryAfterMs(value: string | undefined, nowMs = Date.now()): number | undefined {
  if (value === undefined) return undefined
  if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs)
}
