/** Requests to a source: with credentials, paced, tried again where that may help, redirected where that is safe. */
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import pRetry, { AbortError } from 'p-retry'
import { AdflowError } from '../../core/errors.ts'
import type { HostGate } from '../../core/source-watch.ts'
import type { ByteSource } from '../../records/window.ts'
import { Stopwatch } from '../staging/stopwatch.ts'
import { Auth, type AuthOptions } from './auth.ts'
import { HttpClient, type HttpLimits, type OpenResponse, retryAfterMs } from './client.ts'
import { HostGates } from './host-gate.ts'
import { ACCEPT_ENCODING, type BodyLimits, plainBody } from './response-body.ts'

export interface SourceClientOptions {
  readonly auth: AuthOptions | undefined
  readonly limits: Omit<HttpLimits, 'maxResponseBytes'>
  readonly body: BodyLimits
  readonly concurrency: number
  readonly perSecond: number | undefined
  /** Shared with other sources. Default: of this one alone. */
  readonly hosts?: HostGate | undefined
  readonly attempts: number
  readonly initialMs: number
  readonly maxMs: number
  /** A `Retry-After` beyond this is not waited for. */
  readonly patienceMs: number
}

export interface SourceRequest {
  readonly method: 'GET' | 'POST'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /** What an answer that refuses means, by what it says (its beginning). undefined: what its status means. */
  explain?(status: number, said: string): Error | undefined
}

export interface SourceAnswer {
  /** 200 to 299, or 304. */
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Where it came from at last. */
  readonly url: string
  readonly body: ByteSource
  /** For work that the time-out of the request does not count. */
  pause<T>(work: () => Promise<T>): Promise<T>
}

const REDIRECTS = new Set([301, 302, 303, 307, 308])
const MOST_REDIRECTS = 5
/** Read of an answer that refuses. */
const SAID_BYTES = 16 << 10
const AGAIN = new Set([408, 425, 429, 500, 502, 503, 504, 520, 522, 524])
/** Time is kept here, where what the engine takes of it can be left out. */
const NO_LIMIT_MS = 86_400_000

/** May go well when it is tried again; `error` is what it comes to when it does not. */
export class TryAgain extends Error {
  override readonly name = 'TryAgain'
  readonly error: AdflowError
  readonly afterMs: number | undefined

  constructor(error: AdflowError, afterMs?: number) {
    super(error.message)
    this.error = error
    this.afterMs = afterMs
  }
}

export class SourceClient {
  readonly #options: SourceClientOptions
  readonly #http: HttpClient
  /** For redirects to other hosts: never to a private one, whatever the job allows for its own. */
  readonly #elsewhere: HttpClient
  readonly #auth: Auth
  readonly #gate: HostGate

  constructor(options: SourceClientOptions) {
    const limits = { ...options.limits, totalMs: NO_LIMIT_MS, maxResponseBytes: 1 << 20 }
    this.#options = options
    this.#http = new HttpClient(limits)
    this.#elsewhere = new HttpClient({ ...limits, allowPrivate: false, tls: undefined })
    this.#auth = new Auth(options.auth, new HttpClient({ ...limits, totalMs: options.limits.totalMs }))
    this.#gate = options.hosts ?? new HostGates()
  }

  /** Names of parameters that must not be kept. */
  get secretParams(): readonly string[] {
    return this.#auth.secretParams
  }

  /** `take` reads the body; it is called again, from the start, when the answer breaks off. @throws AdflowError SOURCE_… */
  async ask<T>(request: SourceRequest, signal: AbortSignal, take: (answer: SourceAnswer) => Promise<T>): Promise<T> {
    const { attempts, initialMs, maxMs, patienceMs } = this.#options
    try {
      return await pRetry(() => this.#once(request, signal, take), {
        retries: attempts - 1,
        minTimeout: initialMs,
        maxTimeout: maxMs,
        randomize: true,
        signal,
        shouldRetry: ({ error }) => error instanceof TryAgain && (error.afterMs ?? 0) <= patienceMs,
        onFailedAttempt: async ({ error, retriesLeft }) => {
          if (
            error instanceof TryAgain &&
            error.afterMs !== undefined &&
            retriesLeft > 0 &&
            error.afterMs <= patienceMs
          )
            await delay(error.afterMs, undefined, { signal })
        },
      })
    } catch (error) {
      signal.throwIfAborted()
      throw error instanceof TryAgain ? error.error : error
    }
  }

  async close(): Promise<void> {
    await this.#http.close()
    await this.#elsewhere.close()
    await this.#auth.close()
  }

  async #once<T>(request: SourceRequest, signal: AbortSignal, take: (answer: SourceAnswer) => Promise<T>): Promise<T> {
    const { host } = new URL(request.url)
    return this.#gate.pass(host, this.#options, signal, async () => {
      const watch = new Stopwatch(this.#options.limits.totalMs)
      watch.start()
      try {
        return await this.#taken(request, AbortSignal.any([signal, watch.signal]), watch, take)
      } catch (error) {
        if (signal.aborted) throw new AbortError(error as Error)
        if (error instanceof AdflowError || error instanceof TryAgain) throw error
        const limit = watch.signal.aborted
          ? `no whole answer within ${this.#options.limits.totalMs / 1000} s`
          : undefined
        throw unreachable(placeOf(request.url), error, limit)
      } finally {
        watch.stop()
      }
    })
  }

  async #taken<T>(
    request: SourceRequest,
    signal: AbortSignal,
    watch: Stopwatch,
    take: (answer: SourceAnswer) => Promise<T>,
  ): Promise<T> {
    let { response, url } = await this.#open(request, signal)
    if (response.status === 401 && this.#auth.renew()) {
      discard(response.body)
      ;({ response, url } = await this.#open(request, signal))
    }
    const place = placeOf(url)
    if (response.status !== 304 && (response.status < 200 || response.status > 299)) {
      const explained =
        request.explain === undefined ? undefined : request.explain(response.status, await this.#said(response, place))
      discard(response.body)
      throw explained ?? refusal(place, response, this.#options.patienceMs)
    }
    const body = await plainBody(response, response.headers['content-encoding'], place, this.#options.body)
    try {
      return await take({ ...response, url, body, pause: (work) => watch.pause(work) })
    } finally {
      await body.close()
      response.body.destroy()
    }
  }

  /** The beginning of a body, as text; empty where it breaks off. */
  async #said(response: OpenResponse, place: string): Promise<string> {
    const said = Buffer.alloc(SAID_BYTES)
    let length = 0
    try {
      const plain = await plainBody(response, response.headers['content-encoding'], place, this.#options.body)
      for (let read = -1; read !== 0 && length < said.length; length += read)
        read = await plain.read(said, length, said.length - length)
    } catch {
      return '' // its status says enough
    }
    return said.toString('utf8', 0, length)
  }

  async #open(request: SourceRequest, signal: AbortSignal): Promise<{ response: OpenResponse; url: string }> {
    const home = new URL(request.url)
    let url = home
    let { method, body } = request
    for (let hop = 0; ; hop += 1) {
      const ours = url.origin === home.origin
      const credentials = ours ? await this.#auth.credentials(signal) : { headers: {}, query: {} }
      const asked = new URL(url)
      for (const [name, value] of Object.entries(credentials.query)) asked.searchParams.set(name, value)
      const response = await (ours ? this.#http : this.#elsewhere).open({
        method,
        url: asked.href,
        headers: {
          'user-agent': 'adflow',
          'accept-encoding': ACCEPT_ENCODING,
          ...(ours ? request.headers : {}),
          ...credentials.headers,
        },
        ...(body === undefined ? {} : { body }),
        signal,
      })
      const { location } = response.headers
      if (!REDIRECTS.has(response.status) || location === undefined) return { response, url: url.href }
      discard(response.body)
      const next = new URL(location, url)
      if (hop === MOST_REDIRECTS || (url.protocol === 'https:' && next.protocol !== 'https:'))
        throw new AdflowError(
          'SOURCE_UNSUPPORTED',
          `${placeOf(home.href)} redirects ${hop === MOST_REDIRECTS ? 'without end' : 'to a place that is not encrypted'}`,
          {
            hint: `set \`url\` to where it leads: ${placeOf(next.href)}`,
          },
        )
      if (response.status === 303 || (response.status < 303 && method === 'POST')) {
        method = 'GET'
        body = undefined
      }
      url = next
    }
  }
}

/** Without credentials, query and fragment. */
export function placeOf(url: string): string {
  const { origin, pathname } = new URL(url)
  return `${origin}${pathname}`
}

function discard(body: Readable): void {
  body.on('error', () => undefined).destroy()
}

function refusal(place: string, { status, headers }: OpenResponse, patienceMs: number): Error {
  const found = `${place} answers ${status}`
  if (status === 401 || status === 403)
    return new AdflowError('SOURCE_DENIED', found, { hint: 'check `auth`, and what its user may read' })
  if (status === 404 || status === 410)
    return new AdflowError('SOURCE_MISSING', found, { hint: 'check `url` and `query`' })
  if (!AGAIN.has(status))
    return new AdflowError('SOURCE_UNREADABLE', found, {
      hint: 'the source does not understand the request: check `method`, `query`, `headers` and `paginate`',
    })
  const afterMs = retryAfterMs(headers['retry-after'])
  const long = afterMs !== undefined && afterMs > patienceMs
  return new TryAgain(
    new AdflowError('SOURCE_UNREADABLE', long ? `${found} and wants ${Math.ceil(afterMs / 1000)} s of peace` : found, {
      hint:
        status === 429
          ? 'lower `requests_per_second`, or run less often'
          : 'the next run goes on where this one stopped',
    }),
    afterMs,
  )
}

function unreachable(place: string, error: unknown, limit: string | undefined): Error {
  const { code = '', message } = error as NodeJS.ErrnoException
  if (code === 'ADFLOW_PRIVATE_ADDRESS')
    return new AdflowError('SOURCE_DENIED', `${place}: ${message}`, {
      cause: error,
      hint: 'set `allow_private: true` for a source of your own; a redirect to another host never leads to a private one',
    })
  if (/CERT|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/.test(code))
    return new AdflowError('SOURCE_DENIED', `${place}: ${message}`, {
      cause: error,
      hint: 'this machine must know the authority of the certificate (NODE_EXTRA_CA_CERTS), or the source must renew it',
    })
  if (/^Z_|ZSTD|BROTLI/i.test(code) || /zstd|brotli|unexpected end of file/i.test(message))
    return new TryAgain(
      new AdflowError('SOURCE_DAMAGED', `${place} sends a body that cannot be decompressed: ${message}`, {
        cause: error,
        hint: 'the source, or a proxy before it, is broken; nothing of the page was taken',
      }),
    )
  return new TryAgain(
    new AdflowError('SOURCE_UNREADABLE', `${place}: ${limit ?? (message || code || 'no answer')}`, {
      cause: error,
      hint: 'check `url`, that the source runs and `timeouts`; the next run goes on where this one stopped',
    }),
  )
}
