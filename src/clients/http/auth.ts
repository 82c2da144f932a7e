/** Credentials of requests. A token of OAuth 2 is asked for once, and again when it ends or is refused. */
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'
import type { HttpClient } from './client.ts'

const secret = z.string().min(1)

export const authOptions = z
  .discriminatedUnion('type', [
    z.strictObject({
      type: z.literal('bearer').describe('`Authorization: Bearer <token>`.'),
      token: secret.describe('The token.'),
    }),
    z.strictObject({
      type: z.literal('basic').describe('`Authorization: Basic …`.'),
      user: z.string().describe('The user.'),
      password: z.string().describe('The password.'),
    }),
    z.strictObject({
      type: z.literal('api_key').describe('A key in a header or in the query.'),
      name: z.string().min(1).default('x-api-key').describe('Name of the header or parameter.'),
      value: secret.describe('The key.'),
      in: z.enum(['header', 'query']).default('header').describe('Where it goes.'),
    }),
    z.strictObject({
      type: z.literal('oauth2').describe('OAuth 2, client credentials.'),
      token_url: z.url({ protocol: /^https?$/ }).describe('Where tokens are given.'),
      client_id: secret.describe('Id of the client.'),
      client_secret: secret.describe('Secret of the client.'),
      scope: z.string().optional().describe('Scopes, separated by spaces.'),
      audience: z.string().optional().describe('Audience, where the server wants one.'),
      in: z.enum(['header', 'body']).default('header').describe('Where id and secret go in the request for a token.'),
    }),
  ])
  .describe('Credentials. They go to the host of `url` only.')

export type AuthOptions = z.infer<typeof authOptions>

interface Credentials {
  readonly headers: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string>>
}

/** A token is renewed so long before it ends. */
const EARLY_MS = 30_000
/** Of a token whose server does not say. */
const LIFE_MS = 3_600_000

export class Auth {
  readonly #options: AuthOptions | undefined
  readonly #http: HttpClient
  #token: Promise<{ readonly value: string; readonly endsMs: number }> | undefined

  constructor(options: AuthOptions | undefined, http: HttpClient) {
    this.#options = options
    this.#http = http
  }

  /** Names of parameters that must not be kept. */
  get secretParams(): readonly string[] {
    return this.#options?.type === 'api_key' && this.#options.in === 'query' ? [this.#options.name] : []
  }

  async credentials(signal: AbortSignal): Promise<Credentials> {
    const auth = this.#options
    const header = (name: string, value: string): Credentials => ({ headers: { [name]: value }, query: {} })
    switch (auth?.type) {
      case undefined:
        return { headers: {}, query: {} }
      case 'bearer':
        return header('authorization', `Bearer ${auth.token}`)
      case 'basic':
        return header('authorization', basic(auth.user, auth.password))
      case 'api_key':
        if (auth.in === 'header') return header(auth.name.toLowerCase(), auth.value)
        return { headers: {}, query: { [auth.name]: auth.value } }
      case 'oauth2':
        return header('authorization', `Bearer ${await this.#current(auth, signal)}`)
    }
  }

  async close(): Promise<void> {
    await this.#http.close()
  }

  /** true: what was refused may be taken when it is asked again. */
  renew(): boolean {
    if (this.#options?.type !== 'oauth2') return false
    this.#token = undefined
    return true
  }

  async #current(auth: Extract<AuthOptions, { type: 'oauth2' }>, signal: AbortSignal): Promise<string> {
    const known = await this.#token?.catch(() => undefined)
    if (known === undefined || known.endsMs <= Date.now()) this.#token = this.#ask(auth, signal)
    const asked = this.#token
    if (asked === undefined) return this.#current(auth, signal)
    return (await asked).value
  }

  async #ask(auth: Extract<AuthOptions, { type: 'oauth2' }>, signal: AbortSignal) {
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      ...(auth.scope === undefined ? {} : { scope: auth.scope }),
      ...(auth.audience === undefined ? {} : { audience: auth.audience }),
      ...(auth.in === 'body' ? { client_id: auth.client_id, client_secret: auth.client_secret } : {}),
    })
    const place = `${new URL(auth.token_url).origin}${new URL(auth.token_url).pathname}`
    const { status, body } = await this.#http.request({
      method: 'POST',
      url: auth.token_url,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        accept: 'application/json',
        ...(auth.in === 'header'
          ? { authorization: basic(encodeURIComponent(auth.client_id), encodeURIComponent(auth.client_secret)) }
          : {}),
      },
      body: form.toString(),
      signal,
    })
    if (status === 429 || status >= 500) throw new Error(`${place} answers ${status} to a request for a token`)
    const { access_token: value, expires_in: seconds } = parsed(body)
    if (status >= 300 || typeof value !== 'string')
      throw new AdflowError('SOURCE_DENIED', `${place} gives no token: it answers ${status}`, {
        hint: 'check `auth.client_id`, `auth.client_secret`, `auth.scope` and `auth.in`',
      })
    const lifeMs = Number(seconds) > 0 ? Number(seconds) * 1000 : LIFE_MS
    return { value, endsMs: Date.now() + lifeMs - Math.min(EARLY_MS, lifeMs / 2) }
  }
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
}

function parsed(body: Buffer): { access_token?: unknown; expires_in?: unknown } {
  try {
    return (JSON.parse(body.toString('utf8')) ?? {}) as object
  } catch {
    return {}
  }
}
