/** Rows as signed HTTP requests: Standard Webhooks for delivery, CloudEvents for what is delivered. */
import { z } from 'zod'
import { isPublicAddress } from '../clients/http/address-guard.ts'
import { HttpClient, retryAfterMs } from '../clients/http/client.ts'
import { diagnoseEndpoint } from '../clients/http/diagnose.ts'
import { signWebhook, webhookKey } from '../clients/http/webhook-signature.ts'
import type { Answer, EventSql, Message, MessageConsumer, SendContext } from '../core/consumer.ts'
import type { BatchInfo, ComponentEnv } from '../core/contracts.ts'
import { defineConsumer } from '../core/define.ts'
import { diagnosisAt, findingsAt } from '../core/findings.ts'
import { byteSize, duration } from '../core/job/units.ts'
import type { LoaderRemark } from '../core/loader-check.ts'
import { ident, literal } from '../engine/sql-text.ts'

const address = z.url({ protocol: /^https?$/, error: 'expected a URL that begins with https:// or http://' })
const secret = z
  .string()
  .refine((text) => webhookKey(text) !== undefined, 'expected `whsec_` and the base64 of 24 to 64 bytes')

const options = z
  .strictObject({
    url: z
      .union([address, z.array(address).min(1)])
      .transform((url) => [url].flat())
      .describe('Where requests go. Several are used in turn; one that is down is left out until it is back.'),
    secret: z
      .union([secret, z.array(secret).min(1).max(5)])
      .transform((text) => [text].flat())
      .describe('Signing secret, `whsec_` and base64. With several each request is signed by all: to exchange one.'),
    format: z
      .enum(['cloudevents', 'cloudevents_binary', 'json'])
      .default('cloudevents')
      .describe(
        'Body: the row in a CloudEvents envelope, the row with its CloudEvents attributes in headers, or the bare row.',
      ),
    event_type: z
      .string()
      .min(1)
      .optional()
      .describe('CloudEvents `type`, such as `com.example.spend`. Default: `adflow.<job>.<consumer>`.'),
    source: z.string().min(1).optional().describe('CloudEvents `source`. Default: `/adflow/<job>/<consumer>`.'),
    batch: z
      .strictObject({
        rows: z.int().min(1).max(100_000).default(1).describe('Most rows of a request.'),
        bytes: byteSize.prefault('256KB').describe('A request is closed by the row with which it reaches this size.'),
      })
      .prefault({})
      .describe('How many rows go in one request: with more than one the body is a list.'),
    headers: z
      .record(z.string().regex(/^[A-Za-z0-9-]+$/), z.string())
      .default({})
      .describe('Further headers, such as `authorization`.'),
    timeout: z
      .strictObject({
        connect: duration.prefault('5s').describe('Until the connection stands.'),
        headers: duration.prefault('15s').describe('Until the headers of the answer are there.'),
        body: duration.prefault('5s').describe('Between two pieces of its body.'),
        total: duration.prefault('30s').describe('All of it.'),
      })
      .prefault({})
      .describe('How long one attempt may take.'),
    max_response: byteSize.prefault('64KB').describe('What is read of an answer.'),
    allow_private: z
      .boolean()
      .default(false)
      .describe('true: also hosts of this machine and of private networks. Cloud metadata services stand there too.'),
  })
  .superRefine(({ format, batch }, context) => {
    if (format !== 'cloudevents_binary' || batch.rows === 1) return
    context.addIssue({
      code: 'custom',
      path: ['batch', 'rows'],
      message: '`cloudevents_binary` has one row to a request: its attributes are headers',
    })
  })

type Options = z.infer<typeof options>

/** Answers that may be others the next time. */
const AGAIN = new Set([408, 425, 429])
const GONE = 410
/** Characters of an answer that are kept as the reason. */
const QUOTED = 200

class Webhook implements MessageConsumer {
  readonly takes = 'messages'
  readonly endpoints: readonly string[]
  readonly batch: MessageConsumer['batch']
  readonly body: MessageConsumer['body']
  readonly #options: Options
  readonly #type: string
  readonly #source: string
  readonly #keys: readonly Buffer[]
  readonly #http: HttpClient

  constructor(own: Options, env: ComponentEnv) {
    const { timeout } = own
    this.#options = own
    this.endpoints = own.url
    this.batch = own.batch
    this.body = own.batch.rows === 1 ? 'one' : 'list'
    this.#type = own.event_type ?? `adflow.${env.job}.${env.id}`
    this.#source = own.source ?? `/adflow/${env.job}/${env.id}`
    this.#keys = own.secret.flatMap((text) => webhookKey(text) ?? [])
    this.#http = new HttpClient({
      connectMs: timeout.connect,
      headersMs: timeout.headers,
      bodyMs: timeout.body,
      totalMs: timeout.total,
      maxResponseBytes: own.max_response,
      allowPrivate: own.allow_private,
    })
  }

  event({ id, data, time, key }: EventSql): string {
    if (this.#options.format !== 'cloudevents') return data
    const members: readonly (readonly [string, string])[] = [
      ['specversion', literal('1.0')],
      ['id', id],
      ['source', literal(this.#source)],
      ['type', literal(this.#type)],
      ['time', time],
      ['datacontenttype', literal('application/json')],
      ...(key === undefined ? [] : [['partitionkey', key] as const]),
      ['data', data],
    ]
    return `struct_pack(${members.map(([name, sql]) => `${ident(name)} := ${sql}`).join(', ')})`
  }

  attributes({ clock }: BatchInfo): Readonly<Record<string, string>> {
    const { format } = this.#options
    if (format === 'cloudevents')
      return { 'content-type': `application/cloudevents${this.body === 'list' ? '-batch' : ''}+json; charset=utf-8` }
    const plain = { 'content-type': 'application/json; charset=utf-8' }
    if (format === 'json') return plain
    return {
      ...plain,
      'ce-specversion': '1.0',
      'ce-source': encodeURI(this.#source),
      'ce-type': encodeURI(this.#type),
      'ce-time': clock,
    }
  }

  async send({ id, body, attributes }: Message, { endpoint, signal }: SendContext): Promise<Answer> {
    const seconds = Math.floor(Date.now() / 1000)
    const bytes = Buffer.from(body)
    const response = await this.#http.request({
      method: 'POST',
      url: endpoint,
      headers: {
        'user-agent': 'adflow',
        ...this.#options.headers,
        ...attributes,
        ...('ce-type' in attributes ? { 'ce-id': id } : {}),
        ...signWebhook(this.#keys, { id, body: bytes, seconds }),
      },
      body: bytes,
      signal,
    })
    const { status, headers } = response
    if (status >= 200 && status < 300) return { outcome: 'delivered' }
    const reason = `${new URL(endpoint).host} answered ${status}${quoted(response.body)}`
    if (status === GONE) return { outcome: 'gone', reason }
    if (AGAIN.has(status) || status >= 500) {
      const afterMs = retryAfterMs(headers['retry-after'])
      return { outcome: 'again', reason, ...(afterMs === undefined ? {} : { afterMs }) }
    }
    if (status >= 300 && status < 400)
      return { outcome: 'refused', reason: `${reason}: it sends elsewhere, and redirects are not followed` }
    return { outcome: 'refused', reason }
  }

  async close(): Promise<void> {
    await this.#http.close()
  }
}

/** The beginning of what was answered, on one line. */
function quoted(body: Buffer): string {
  const text = body
    .toString('utf8')
    .replaceAll(/[\s\p{Cc}]+/gu, ' ')
    .trim()
  return text === '' ? '' : `: ${text.slice(0, QUOTED)}`
}

export default defineConsumer({
  summary: 'Sends rows as signed HTTP requests.',
  description: `Each request is a POST with the headers \`webhook-id\`, \`webhook-timestamp\` and \`webhook-signature\` of
[Standard Webhooks](https://www.standardwebhooks.com), and a body of CloudEvents 1.0 (\`application/cloudevents+json\`, with more
rows \`application/cloudevents-batch+json\`). The \`webhook-id\` of a request, and the bytes of its body, are the same at every attempt, also
after a crash and when a dead letter is sent again: a receiver that remembers ids has each request exactly once, one
that does not has it at least once.

| answer | what becomes of the request |
|---|---|
| 2xx | delivered |
| 408, 425, 429, 5xx, no answer | tried again, not before \`Retry-After\` (at most \`retry.max\`) |
| 410 | the consumer is switched off: everything for it waits until \`adflow distribute --switch-on\` |
| other 4xx, redirects | a dead letter at once |

A redirect is never followed. Only public addresses are reached, whatever a name leads to at the moment of the connection;
\`allow_private\` opens that for receivers of one's own. Integers are JSON numbers of any size; decimals, 128-bit
integers, NaN and the infinities are strings.`,
  options,
  example: {
    url: 'https://partner.example/hooks/adflow',
    secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    event_type: 'com.example.spend',
  },
  async check({ url, allow_private }, { path }) {
    const hosts = url.map((text) => new URL(text).hostname.replace(/^\[|\]$/g, ''))
    const inside = allow_private ? undefined : hosts.find((host) => /^[\d.]+$|:/.test(host) && !isPublicAddress(host))
    const local = allow_private ? undefined : hosts.find((host) => /(^|\.)localhost$/i.test(host))
    const found = inside ?? local
    if (found === undefined) return []
    const message = `${found} is not a public address: requests to it would be refused`
    const hint = 'for a receiver of your own say `allow_private: true`'
    return [{ kind: 'mistake', message, hint, path: [...path, 'url'] } satisfies LoaderRemark]
  },
  diagnose({ url, timeout, allow_private }, env) {
    const limits = { connectMs: timeout.connect, allowPrivate: allow_private }
    const origins = url.map((endpoint) => new URL(endpoint).origin)
    return diagnosisAt(origins.join(', '), async function* () {
      const asked = url.map((endpoint, index) =>
        diagnoseEndpoint(findingsAt(origins[index] ?? ''), endpoint, limits, env),
      )
      yield* (await Promise.all(asked)).flat()
    })
  },
  create: (own, env) => new Webhook(own, env),
})
