/**
 * The HTTP API that Elasticsearch and OpenSearch have in common. Bodies go as they are and nothing is sent again by
 * itself: what a lost answer means is known only to whoever asked. undici is imported on the first request.
 */
import type { Agent } from 'undici'
import { AdflowError } from '../../core/errors.ts'
import { registerSecret } from '../../core/job/secrets.ts'
import { tlsMaterial } from '../../core/tls.ts'
import type { ByteSource } from '../../records/window.ts'
import { type BodyLimits, plainBody } from '../http/response-body.ts'
import { complaintError, complaintOf, noAnswer } from './errors.ts'
import type { ConnectionOptions } from './options.ts'

export interface ElasticRequest {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE' | 'HEAD'
  /** Parts of the path, each encoded by itself. */
  readonly path: readonly string[]
  readonly query?: Readonly<Record<string, string>>
  /** Sent as JSON; bytes are sent as lines of JSON. A text of open() is JSON already. */
  readonly body?: unknown
  readonly signal?: AbortSignal
  /** Statuses beside 2xx that are answers, not errors. */
  readonly expect?: readonly number[]
  /** For messages: "write a batch to events". */
  readonly doing: string
}

export interface ElasticAnswer {
  readonly status: number
  readonly body: unknown
}

export class Elastic {
  readonly #options: Omit<ConnectionOptions, 'requests'>
  readonly #baseDir: string
  readonly #base: URL
  readonly #headers: Readonly<Record<string, string>>
  #agent: Promise<Agent> | undefined

  constructor(options: Omit<ConnectionOptions, 'requests'>, baseDir: string) {
    this.#options = options
    this.#baseDir = baseDir
    this.#base = parsed(options.url)
    this.#headers = authorization(options, this.#base)
  }

  /** @throws AdflowError for every status that is neither 2xx nor expected, and where no answer came */
  async request({ method, path, query, body, signal, expect, doing }: ElasticRequest): Promise<ElasticAnswer> {
    const { status, text } = await this.send(
      {
        method,
        path: `${path.map(encodeURIComponent).join('/')}${query === undefined ? '' : `?${new URLSearchParams(query)}`}`,
        body: body === undefined ? undefined : Buffer.isBuffer(body) ? body : JSON.stringify(body),
        type: Buffer.isBuffer(body) ? 'application/x-ndjson' : 'application/json',
      },
      signal,
    ).catch((error: unknown) => {
      throw noAnswer(error, doing)
    })
    const answer = json(text)
    if ((status >= 200 && status < 300) || expect?.includes(status) === true) return { status, body: answer }
    const { error = text } = (answer ?? {}) as { error?: unknown }
    throw complaintError(complaintOf(status, error), doing)
  }

  /** One exchange. */
  async send(
    {
      method,
      path,
      body,
      type,
    }: {
      readonly method: ElasticRequest['method']
      readonly path: string
      readonly body: Buffer | string | undefined
      readonly type: string
    },
    signal?: AbortSignal,
  ): Promise<{ readonly status: number; readonly text: string }> {
    signal?.throwIfAborted()
    this.#agent ??= this.#connect()
    const dispatcher = await this.#agent
    const { request } = await import('undici')
    const response = await request(`${this.#base.href}${path}`, {
      method,
      dispatcher,
      headers: { ...this.#headers, ...(body === undefined ? {} : { 'content-type': type }) },
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    })
    return { status: response.statusCode, text: await response.body.text() }
  }

  /** One exchange whose answer is read as it stands, compressed on the way. @throws AdflowError SOURCE_BOMB, and what the net says */
  async open(
    { method, path, query, body, signal }: Omit<ElasticRequest, 'expect' | 'doing'>,
    limits: BodyLimits,
  ): Promise<{ readonly status: number; readonly body: ByteSource }> {
    signal?.throwIfAborted()
    this.#agent ??= this.#connect()
    const dispatcher = await this.#agent
    const { request } = await import('undici')
    const place = `${path.map(encodeURIComponent).join('/')}${query === undefined ? '' : `?${new URLSearchParams(query)}`}`
    const response = await request(`${this.#base.href}${place}`, {
      method,
      dispatcher,
      headers: {
        ...this.#headers,
        'accept-encoding': 'gzip',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    })
    const encoding = [response.headers['content-encoding'] ?? ''].flat().join(', ')
    return {
      status: response.statusCode,
      body: await plainBody(response, encoding, `${this.#base.href}${path.join('/')}`, limits),
    }
  }

  async close(): Promise<void> {
    await (await this.#agent?.catch(() => undefined))?.destroy() // it never opened
  }

  async #connect(): Promise<Agent> {
    const { Agent } = await import('undici')
    const { connect_timeout, connections, request_timeout, tls } = this.#options
    return new Agent({
      connections,
      headersTimeout: request_timeout,
      bodyTimeout: request_timeout,
      connect: { timeout: connect_timeout, ...tlsMaterial(tls, this.#baseDir) },
    })
  }
}

/** Without credentials, query and fragment; the path ends in a slash. @throws AdflowError JOB_INVALID where it does not parse */
export function placeOf({ url }: Pick<ConnectionOptions, 'url'>): URL {
  const place = parsed(url)
  place.username = ''
  place.password = ''
  return place
}

function parsed(url: string): URL {
  try {
    const { origin, pathname, username, password } = new URL(url)
    const place = new URL(pathname.endsWith('/') ? pathname : `${pathname}/`, origin)
    place.username = username
    place.password = password
    return place
  } catch (error) {
    throw new AdflowError('JOB_INVALID', 'the URL of the Elasticsearch or OpenSearch server does not parse', {
      cause: error,
      hint: 'write `https://search.example:9200`',
    })
  }
}

/** Takes the credentials out of the URL: a URL is shown in errors. */
function authorization(
  { api_key, user, password }: Pick<ConnectionOptions, 'api_key' | 'user' | 'password'>,
  url: URL,
): Record<string, string> {
  const name = user ?? decodeURIComponent(url.username)
  const secret = password ?? decodeURIComponent(url.password)
  url.username = ''
  url.password = ''
  if (api_key !== undefined) {
    registerSecret(api_key)
    return { authorization: `ApiKey ${api_key}` }
  }
  if (name === '') return {}
  if (secret !== '') registerSecret(secret)
  const basic = Buffer.from(`${name}:${secret}`).toString('base64')
  registerSecret(basic)
  return { authorization: `Basic ${basic}` }
}

/** undefined where it is none: a page of a proxy, or nothing. */
function json(text: string): unknown {
  try {
    return text === '' ? undefined : (JSON.parse(text) as unknown)
  } catch {
    return undefined
  }
}
